"""--specdec-erosion: updates that each pass, until they add up."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from helpers.support import add_noise
from plugin.conftest import TEST, facts

from pytest_specdec.baselines.store import load_baseline

RECORD = "letters/tiny-draft-k4-depth0-t1.json"


@pytest.fixture
def eroded(project, tmp_path: Path) -> str:
    """A project whose baseline of k = 4 was updated for a worse draft; returns the option that
    names the draft.
    """
    project.create("--specdec-k=4", "--specdec-depth=0")
    draft = f"--specdec-draft={add_noise(project.draft, tmp_path / 'other-draft', 0.1)}"
    project.run("--specdec-k=4", "--specdec-depth=0", draft, "--specdec-update=changed", ok=True)
    return draft


def test_an_update_is_remembered_and_reported(project, eroded: str) -> None:
    stored = load_baseline(project.pytester.path / "baselines" / RECORD)
    (before,) = stored.replaced
    assert before.acceptance_length > stored.acceptance_length
    result = project.run("--specdec-k=4", "--specdec-depth=0", eroded, ok=True)
    drop = 1 - stored.acceptance_length / before.acceptance_length
    result.stdout.fnmatch_lines(
        [
            f"note: letters/tiny-draft-k4-depth0-t1: {drop * 100:.2f} % below the best of the last "
            f"2 baselines (length {before.acceptance_length:.4f}*"
        ]
    )


def test_from_the_limit_on_an_unchanged_run_fails_until_it_is_forgotten(
    project, eroded: str
) -> None:
    words = ("--specdec-k=4", "--specdec-depth=0", eroded, "--specdec-erosion=0.1%")
    result = project.run(*words, ok=False)
    assert project.report(*words)[0]["verdict"] == "regressed"
    lines = facts(result.outlines)
    assert [
        line for line in lines if "case " in line and "the acceptance length has eroded" in line
    ]
    (command,) = {line.split("intended?")[1].strip() for line in lines if "  intended?" in line}
    # An update for the same draft changes nothing, so it resets nothing either.
    project.run(*words, "--specdec-update=all", ok=False)
    python, *module = shlex.split(command)
    assert python == "python"
    done = project.pytester.run(sys.executable, *module)
    assert done.ret == 0
    assert done.outlines == ["erosion of 1 baseline forgotten"]
    project.run(*words, ok=True)


def test_the_marker_and_the_ini_file_set_the_limit(project, eroded: str) -> None:
    words = ("--specdec-k=4", "--specdec-depth=0", eroded)
    project.pytester.makeini("[pytest]\nspecdec_erosion = 0.1%\n")
    project.run(*words, ok=False)
    project.write_test(TEST.replace("k=[4, 8]", "erosion=0.9, k=[4, 8]"))
    project.run(*words, ok=True)
    project.pytester.makeini("[pytest]\n")
    project.write_test(TEST.replace("k=[4, 8]", "erosion=0.001, k=[4, 8]"))
    project.run(*words, ok=False)
    project.run(*words, "--specdec-erosion=90%", ok=True)


def test_some_of_the_prompts_are_not_judged_and_a_note_says_so(project, eroded: str) -> None:
    words = ("--specdec-k=4", "--specdec-depth=0", eroded, "--specdec-erosion=0.1%")
    result = project.run(*words, "--specdec-prompts=8", ok=True)
    result.stdout.fnmatch_lines(
        ["note: *measured 8 of 12 prompts (--specdec-prompts); erosion is judged on all of them*"]
    )


def test_an_update_below_the_limit_says_that_the_next_run_fails(
    project, eroded: str, tmp_path: Path
) -> None:
    worse = f"--specdec-draft={add_noise(project.draft, tmp_path / 'worse-draft', 0.11)}"
    words = ("--specdec-k=4", "--specdec-depth=0", worse, "--specdec-erosion=0.1%")
    result = project.run(*words, "--specdec-update=changed", ok=True)
    assert "still fails the updated baseline (--specdec-erosion)" in result.stdout.str()
    project.run(*words, ok=False)
