"""Markers, options and what pytest lists: --markers, --help, --collect-only, -m, -k, -n, -p
no:specdec.
"""

from __future__ import annotations

import re

import pytest


def collected(project, *arguments: str) -> list[str]:
    result = project.run("--collect-only", "-q", *arguments)
    return [line.rsplit("::", 1)[1] for line in result.outlines if "::" in line]


def test_every_cell_is_one_readable_item(project) -> None:
    assert collected(project) == [
        f"test_draft[k{k}-depth{depth}]" for k in (4, 8) for depth in (0, 2)
    ]


@pytest.mark.parametrize(
    ("arguments", "items"),
    [
        (("-m", "k8 and depth2"), ["test_draft[k8-depth2]"]),
        (("-m", "k8 and not depth2"), ["test_draft[k8-depth0]"]),
        (("-k", "k4-depth0"), ["test_draft[k4-depth0]"]),
        (
            ("--specdec-k=3", "--specdec-depth=1,2"),
            ["test_draft[k3-depth1]", "test_draft[k3-depth2]"],
        ),
        (("--specdec-k=8,8", "--specdec-depth=0"), ["test_draft[k8-depth0]"]),
    ],
)
def test_cells_are_selected(project, arguments: tuple[str, ...], items: list[str]) -> None:
    assert collected(project, *arguments) == items


def test_the_ini_file_sets_defaults_that_the_marker_overrides(project) -> None:
    project.pytester.makeini("[pytest]\nspecdec_k = 5\nspecdec_depth = 1\n")
    assert len(collected(project)) == 4
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, new_tokens=24)
def test_draft(specdec_run): pass
""")
    assert collected(project) == ["test_draft[k5-depth1]"]
    assert collected(project, "--specdec-k=6") == ["test_draft[k6-depth1]"]


def test_models_can_come_from_the_command_line_alone(project) -> None:
    project.write_test("def test_pair(specdec_run): assert specdec_run.acceptance_length >= 1\n")
    models = (
        f"--specdec-target={project.target}",
        f"--specdec-draft={project.draft}",
        "--specdec-new-tokens=24",
    )
    project.run("--specdec-k=2", *models, ok=True)
    result = project.run("--specdec-k=2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pass --specdec-*"])


def test_own_heads_skip_a_depth_of_zero_with_the_reason(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter="mtp", k=2, new_tokens=24)
def test_heads(specdec_run): pass
""")
    assert collected(project, "--specdec-depth=0,1,2") == [
        "test_heads[k2-depth1]",
        "test_heads[k2-depth2]",
    ]
    result = project.run("--specdec-depth=0", "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*draft with at least one MTP layer: use --specdec-depth=1 or more*"]
    )


def test_markers_are_listed(project) -> None:
    result = project.run("--markers")
    result.stdout.fnmatch_lines(
        [
            "@pytest.mark.specdec(target, drafter, *",
            "@pytest.mark.kN: *-m k8*",
            "@pytest.mark.depthN: *",
        ]
    )


def test_every_option_stands_in_the_help_with_its_ini_twin(project) -> None:
    text = project.run("--help").stdout.str()
    from pytest_specdec.config.options import OPTIONS

    for option in OPTIONS:
        assert f"{option.flag}{'=' * (option.action != 'store_true')}" in text
        assert bool(re.search(rf"\b{option.ini_name}\b", text)) == option.ini


def test_the_header_names_what_was_asked_and_stays_away_otherwise(project) -> None:
    project.run("--specdec-k=4,8", "--collect-only").stdout.fnmatch_lines(
        [
            "specdec: k=4,8, replay on auto, float32, baselines in baselines",
            "specdec: 4 gates on 1 pair of models, *1.00 % in all",
        ]
    )
    assert "specdec: k" not in project.run("--collect-only").stdout.str()


def test_without_the_plugin_its_options_are_unknown_and_other_tests_run(project) -> None:
    project.write_test("def test_other(): pass\n", "suites/letters/test_letters.py")
    project.run("-p", "no:specdec", ok=True)
    assert project.run("-p", "no:specdec", "--specdec-k=8").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_the_table_stands_once_under_xdist(project, workers: str) -> None:
    project.create()
    result = project.run(workers, ok=True)
    assert result.stdout.str().count("suite letters") == 1
    result.stdout.fnmatch_lines(["*8      2 *pass"])


def test_fixtures_hand_out_the_loaded_models(project) -> None:
    project.write_test("""
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=2, new_tokens=24)
def test_models(specdec_target, specdec_drafter, specdec_costs, specdec_case):
    assert specdec_target.model.config.num_hidden_layers == 2
    assert specdec_drafter.heads.num_mtp_layers == 2
    assert specdec_costs is None
    assert specdec_case.id == "letters/tiny-draft-k2-depth0-t1"
""")
    project.run(ok=True)
