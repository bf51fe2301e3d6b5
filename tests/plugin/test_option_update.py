"""--specdec-update=new|changed|all: what is written, what is left alone, and that it is all or
nothing.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
import pytest
from helpers.support import add_noise
from plugin.conftest import TEST

from pytest_specdec.baselines.store import load_baseline
from pytest_specdec.baselines.writing import dumps

WRITTEN = {
    "letters/texts/t1-n24-s0.json",
    *(f"letters/tiny-draft-k{k}-depth{depth}-t1.json" for k in (4, 8) for depth in (0, 2)),
}


@pytest.fixture
def other_draft(project, tmp_path: Path) -> str:
    return f"--specdec-draft={add_noise(project.draft, tmp_path / 'other-draft', 0.1)}"


def test_new_creates_what_is_missing_and_the_run_passes(project) -> None:
    result = project.run("--specdec-update=new", ok=True)
    result.stdout.fnmatch_lines(["*new", "wrote baselines/letters/tiny-draft-k4-depth0-t1.json"])
    assert set(project.baselines) == WRITTEN


def test_new_leaves_existing_baselines_alone_and_still_judges_them(
    project, other_draft: str
) -> None:
    project.create("--specdec-k=4")
    before = project.baselines
    result = project.run("--specdec-update=new", other_draft)
    result.assert_outcomes(passed=2, failed=2)
    assert {name: text for name, text in project.baselines.items() if name in before} == before
    assert set(project.baselines) == WRITTEN


def test_changed_rewrites_what_differs_and_creates_nothing(project, other_draft: str) -> None:
    project.create("--specdec-k=4")
    before = project.baselines
    result = project.run("--specdec-update=changed", other_draft)
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*updated"])
    assert set(project.baselines) == set(before)
    assert all(
        before[name] != text for name, text in project.baselines.items() if "texts" not in name
    )
    assert (
        before["letters/texts/t1-n24-s0.json"] == project.baselines["letters/texts/t1-n24-s0.json"]
    )


def test_changed_without_a_change_writes_nothing(project) -> None:
    project.create()
    result = project.run("--specdec-update=changed", ok=True)
    assert "wrote" not in result.stdout.str()


@pytest.fixture
def measured_elsewhere(project) -> dict[str, str]:
    """The baselines as two more threads and other last digits would have written them."""
    project.create("--specdec-k=4")
    records = [name for name in project.baselines if "texts" not in name]
    for path in (project.pytester.path / "baselines" / name for name in records):
        stored = load_baseline(path)
        environment = msgspec.structs.replace(
            stored.environment, threads=stored.environment.threads + 2
        )
        rows = {
            key: msgspec.structs.replace(row, rounds=row.rounds + 1e-5)
            for key, row in stored.counts.items()
        }
        path.write_text(
            dumps(msgspec.structs.replace(stored, environment=environment, counts=rows))
        )
    return dict(project.baselines)


def test_changed_spares_what_another_machine_rounded(
    project, measured_elsewhere: dict[str, str]
) -> None:
    project.run("--specdec-k=4", "--specdec-update=changed", ok=True)
    assert project.baselines == measured_elsewhere


def test_all_moves_it_over(project, measured_elsewhere: dict[str, str]) -> None:
    project.run("--specdec-k=4", "--specdec-update=all", ok=True)
    assert all(
        measured_elsewhere[name] != text
        for name, text in project.baselines.items()
        if "texts" not in name
    )


def test_all_does_both_and_the_next_run_passes(project, other_draft: str) -> None:
    project.create("--specdec-k=4")
    project.run("--specdec-update=all", other_draft, ok=True)
    assert set(project.baselines) == WRITTEN
    project.run(other_draft, ok=True)


def parted(result: pytest.RunResult) -> list[str]:
    """The notes on baselines that an update parts from their texts."""
    return [line for line in result.outlines if "holds texts of one target" in line]


def test_texts_that_replace_those_of_other_cases_are_named(project, tmp_path: Path) -> None:
    project.create()
    target = add_noise(project.target, tmp_path / "other-target", 0.05, seed=3)
    other = (f"--specdec-target={target}", "--specdec-update=changed")
    (note,) = parted(project.run("-m", "k4", *other, ok=True))
    assert note.startswith(
        "baselines/letters/texts/t1-n24-s0.json holds texts of one target, and 2 baselines were "
        "measured on texts of another: tiny-draft-k8-depth0-t1, tiny-draft-k8-depth2-t1; "
    )
    assert "update all cases that share these texts in one run" in note
    assert not parted(project.run("-m", "k4", "--specdec-update=all", *other[:1], ok=True))
    assert not parted(project.run(*other, ok=True))


def test_a_new_case_among_texts_of_another_target_is_named(project, tmp_path: Path) -> None:
    project.create("-m", "k4")
    target = add_noise(project.target, tmp_path / "other-target", 0.05, seed=3)
    new = ("-m", "k8 and depth0", f"--specdec-target={target}", "--specdec-update=new")
    (note,) = parted(project.run(*new, ok=True))
    assert "and 1 baseline was measured on texts of another: tiny-draft-k8-depth0-t1; " in note


def test_a_selected_run_deletes_nothing(project) -> None:
    project.create()
    project.run("--specdec-update=all", "-m", "k4 and depth2", ok=True)
    assert set(project.baselines) == WRITTEN


@pytest.mark.usefixtures("warm_processes")
def test_an_interrupted_run_writes_nothing_and_says_so(project) -> None:
    project.write_test(
        "def test_stop():\n    raise KeyboardInterrupt\n", "suites/letters/test_zz_stop.py"
    )
    result = project.pytester.runpytest_subprocess("-p", "no:cacheprovider", "--specdec-update=new")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert project.baselines == {}
    result.stdout.fnmatch_lines(
        ["interrupted: none of 8 baseline files was written; run again to the end"]
    )


@pytest.mark.usefixtures("warm_processes")
def test_the_update_is_the_same_in_one_process_and_in_two(project) -> None:
    project.create()
    serial = project.baselines
    for name in serial:
        (project.pytester.path / "baselines" / name).unlink()
    project.create("-n2")
    assert project.baselines == serial


def test_another_folder_for_baselines(project) -> None:
    project.create("--specdec-baselines=elsewhere")
    assert project.baselines == {}
    project.run("--specdec-baselines=elsewhere", ok=True)
    project.pytester.makeini("[pytest]\nspecdec_baselines = elsewhere\n")
    project.run(ok=True)


@pytest.mark.parametrize(
    "options",
    [
        ("--specdec-prompts", "5"),
        ("--specdec-prompts=5",),
        ("--specdec-accumulate",),
        ("--specdec-k=4", "-p", "no:cacheprovider"),
    ],
)
def test_the_command_that_ends_a_failure_can_be_run_as_it_is(
    project, options: tuple[str, ...]
) -> None:
    result = project.run(*options, ok=False)
    label = "  create     "
    (command,) = {line.removeprefix(label) for line in result.outlines if line.startswith(label)}
    words = shlex.split(command)
    assert words[0] == "pytest"
    assert words[-1] == "--specdec-update=new"
    assert not {"5", "--specdec-prompts", "--specdec-prompts=5", "--specdec-accumulate"} & set(
        words
    )
    project.run(*words[1:], ok=True)


@pytest.mark.usefixtures("warm_processes")
def test_pytest_exit_with_a_status_of_its_own_writes_nothing(project) -> None:
    project.write_test(
        "import pytest\n\ndef test_stop():\n    pytest.exit('enough', returncode=1)\n",
        "suites/letters/test_zz.py",
    )
    result = project.pytester.runpytest_subprocess(
        "-p", "no:cacheprovider", "--specdec-update=new", "--specdec-prune"
    )
    assert result.ret == 1
    assert project.stored == {}


def test_an_empty_test_file_is_no_reason_to_refuse_pruning(project) -> None:
    project.create()
    (project.pytester.path / "suites/letters/test_empty.py").touch()
    project.run("--specdec-prune", ok=True)


def test_extra_parameters_do_not_hide_that_tests_were_deselected(project) -> None:
    project.write_test(
        TEST.replace(
            "def test_draft(", '@pytest.mark.parametrize("twice", [1, 2])\ndef test_draft(twice, '
        )
    )
    project.create()
    result = project.run("-k", "k4", "--specdec-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "only 4 of 8 tests of the suites were selected" in result.stdout.str() + result.stderr.str()
    )


def test_a_run_that_stopped_early_says_that_it_pruned_nothing(project) -> None:
    project.create()
    path = project.pytester.path / "baselines/letters"
    (path / "old.json").write_text((path / "tiny-draft-k4-depth0-t1.json").read_text())
    project.write_test("def test_fails(): assert False\n", "suites/letters/test_a.py")
    project.run("-x", "--specdec-prune").stdout.fnmatch_lines(
        ["stopped early: nothing was pruned; run again to the end"]
    )
    assert (path / "old.json").exists()
