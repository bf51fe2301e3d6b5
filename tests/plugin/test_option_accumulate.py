"""--specdec-accumulate: every run adds to the evidence, and none is ever retried."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.support import add_noise

CELL = ("--specdec-k=4", "--specdec-depth=0", "--specdec-alpha=5%")
ACCUMULATE = (*CELL, "--specdec-accumulate", "--specdec-inconclusive=warn")
FILE = "letters/evidence/tiny-draft-k4-depth0-t1.json"


def accumulated(project) -> list[dict]:
    return json.loads(project.baselines[FILE])["nights"]


def test_every_run_is_added_with_texts_of_its_own(project) -> None:
    project.create(*CELL)
    baselines = project.baselines
    for number in (1, 2, 3):
        (row,) = project.report(*ACCUMULATE)
        assert row["verdict"] in ("pass", "inconclusive")
        assert f"after {number} run" in row["reason"]
        assert row["evidence"] > 0
        assert len(accumulated(project)) == number
    texts = [tuple(row["text"] for row in run["counts"].values()) for run in accumulated(project)]
    assert len(set(texts)) == 3
    assert {name: text for name, text in project.baselines.items() if name != FILE} == baselines


def test_a_new_baseline_starts_again(project, tmp_path: Path) -> None:
    project.create(*CELL)
    project.run(*ACCUMULATE, ok=True)
    project.run(*ACCUMULATE, ok=True)
    other = add_noise(project.draft, tmp_path / "other-draft", 0.1)
    project.run(*CELL, f"--specdec-draft={other}", "--specdec-update=changed", ok=True)
    project.run(*ACCUMULATE, f"--specdec-draft={other}", ok=True)
    assert len(accumulated(project)) == 1


def test_a_much_worse_drafter_is_found_and_stays_found(project, tmp_path: Path) -> None:
    project.create(*CELL, "--specdec-repeats=4")
    dead = add_noise(project.draft, tmp_path / "dead-draft", 5.0)
    rows = [project.report(*ACCUMULATE, f"--specdec-draft={dead}")[0] for _ in range(5)]
    outcomes = [row["verdict"] for row in rows]
    assert "regressed" in outcomes
    assert set(outcomes[outcomes.index("regressed") :]) == {"regressed"}
    assert "fell from run 1 on: evidence " in rows[-1]["reason"]


@pytest.mark.usefixtures("warm_processes")
def test_workers_write_the_same_evidence(project) -> None:
    project.create(*CELL)
    project.run(*ACCUMULATE, ok=True)
    alone = project.baselines[FILE]
    (project.pytester.path / "baselines" / FILE).unlink()
    project.run(*ACCUMULATE, "-n2", ok=True)
    assert project.baselines[FILE] == alone


@pytest.mark.usefixtures("warm_processes")
def test_an_interrupted_run_is_not_kept(project) -> None:
    project.create(*CELL)
    project.write_test(
        "def test_stop():\n    raise KeyboardInterrupt\n", "suites/letters/test_zz_stop.py"
    )
    result = project.pytester.runpytest_subprocess("-p", "no:cacheprovider", *ACCUMULATE)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert FILE not in project.baselines


def test_greedy_cases_are_judged_as_usual(project) -> None:
    cold = (
        "--specdec-k=1",
        "--specdec-depth=0",
        "--specdec-temperature=0",
        "--specdec-new-tokens=15",
    )
    project.create(*cold)
    (row,) = project.report(*cold, "--specdec-accumulate")
    assert (row["verdict"], row["evidence"]) == ("pass", None)
    assert not any("evidence" in name for name in project.baselines)


def test_without_a_baseline_there_is_nothing_to_add_to(project) -> None:
    project.run(*ACCUMULATE, ok=False).stdout.fnmatch_lines(
        ["*no baseline at *; create it with --specdec-update=new*"]
    )
    assert project.baselines == {}


@pytest.mark.parametrize(
    "other", ["--specdec-update=all", "--specdec-prompts=4", "--specdec-repeats=2"]
)
def test_options_that_do_not_go_together_are_refused(project, other: str) -> None:
    result = project.run("--specdec-accumulate", other)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "leave one of them out" in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    "sampled", [("--specdec-accumulate",), ("--specdec-engine=decode", "--specdec-update=new")]
)
def test_too_few_prompts_to_ever_fail_are_refused_with_the_number_needed(
    project, sampled: tuple[str, ...]
) -> None:
    project.write_prompts([("vowels", "apple"), ("consonants", "pear")])
    result = project.run("--specdec-k=4", "--specdec-depth=0", *sampled)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    printed = result.stdout.str() + result.stderr.str()
    assert "2 prompts can never fail a gate at level 0.01; use at least 7 prompts" in printed
    assert project.baselines == {}
