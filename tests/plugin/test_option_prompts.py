"""--specdec-prompts=N: a smaller run that is still judged, prompt by prompt, against the full
baseline.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import add_noise
from plugin.conftest import PROMPTS, facts


def test_the_first_prompts_are_compared_with_their_own_part_of_the_baseline(project) -> None:
    project.create()
    rows = project.report("--specdec-prompts=5")
    assert {row["prompts"] for row in rows} == {5}
    assert {row["verdict"] for row in rows} == {"pass"}
    for row in rows:
        assert abs(row["acceptance_length"] - row["baseline"]["acceptance_length"]) < 1e-5


def test_the_ini_files_number_of_prompts_is_the_projects_own(project) -> None:
    project.create()
    project.pytester.makeini("[pytest]\nspecdec_prompts = 5\n")
    project.run(ok=False).stdout.fnmatch_lines(["*the prompt set changed: 0 new, 7 gone*"])
    project.run("--specdec-update=changed", ok=True)
    project.run(ok=True)


def test_a_larger_run_is_judged_on_the_baselines_prompts_and_says_so(project) -> None:
    test = project.write_test()
    test.write_text(test.read_text().replace("new_tokens=24", "new_tokens=24, prompt_limit=8"))
    project.create()
    assert {row["prompts"] for row in project.report()} == {8}
    rows = project.report("--specdec-prompts=12")
    assert {row["prompts"] for row in rows} == {12}
    assert {row["reason"] for row in rows} == {
        "unchanged; 4 of 12 prompts have no baseline and were not judged"
    }
    assert {row["samples"]["count"] for row in rows} == {12}


def test_a_smaller_run_still_catches_a_worse_drafter(project, tmp_path: Path) -> None:
    project.create()
    noisy = add_noise(project.draft, tmp_path / "noisy", 1.0)
    rows = project.report(
        "--specdec-prompts=8", f"--specdec-draft={noisy}", "--specdec-k=8", "--specdec-depth=0"
    )
    assert [row["verdict"] for row in rows] == ["regressed"]


def test_one_more_prompt_is_an_error_until_the_baseline_holds_it(project) -> None:
    project.create()
    path = project.pytester.path / "suites/letters/prompts.jsonl"
    path.write_text(path.read_text() + '{"category": "late", "prompt": "zebra"}\n')
    assert {row["verdict"] for row in project.report()} == {"error"}
    project.run("--specdec-prompts=12", ok=True)
    texts = project.baselines["letters/texts/t1-n24-s0.json"]
    project.run("--specdec-update=changed")
    kept = set(texts.splitlines()) & set(
        project.baselines["letters/texts/t1-n24-s0.json"].splitlines()
    )
    assert len(kept) >= 12


def test_a_larger_run_still_catches_a_worse_drafter_and_writes_no_baseline(
    project, tmp_path: Path
) -> None:
    test = project.write_test()
    test.write_text(test.read_text().replace("new_tokens=24", "new_tokens=24, prompt_limit=8"))
    project.create()
    before = project.stored
    noisy = add_noise(project.draft, tmp_path / "noisy", 1.0)
    cell = (
        "--specdec-prompts=12",
        f"--specdec-draft={noisy}",
        "--specdec-k=8",
        "--specdec-depth=0",
    )
    result = project.run(*cell, ok=False)
    lines = pytest.LineMatcher(facts(result.stdout.lines))
    lines.fnmatch_lines(
        [
            "*acceptance_length regressed: *",
            "*; 4 of 12 prompts have no baseline and were not judged*",
        ]
    )
    assert project.stored == before
    project.run(*cell, "--specdec-update=changed", ok=False).stderr.fnmatch_lines(
        ["*--specdec-update with --specdec-prompts*"]
    )


def test_more_prompts_than_the_file_has_is_refused(project) -> None:
    project.run("--specdec-prompts=13", ok=False).stderr.fnmatch_lines(
        ["*13 prompts were asked for and * holds 12; lower *"]
    )


def test_a_larger_run_judges_nothing_where_the_marker_alone_asks_for_it(project) -> None:
    """The marker's and the ini file's number of prompts are the project's own: the baseline must
    follow.
    """
    project.create("--specdec-k=4")
    project.write_prompts([*PROMPTS, ("late", "zebra")])
    project.run("--specdec-k=4", ok=False).stdout.fnmatch_lines(
        ["*the prompt set changed: 1 new, 0 gone*"]
    )
    project.run("--specdec-k=4", "--specdec-prompts=13", ok=True)
