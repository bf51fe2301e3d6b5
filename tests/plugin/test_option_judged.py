"""--specdec-judged: some tokens are judged, the others are given; a case, and a baseline, of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import add_noise

EVERY_TOKEN = "--specdec-judged=0:32"
STEPS_OF_TWO = "--specdec-judged=0:32:2"


def test_judging_every_token_gives_plain_figures_under_another_name(project) -> None:
    project.create()
    project.create(EVERY_TOKEN)
    for k in (4, 8):
        plain, judged = (
            json.loads(project.baselines[f"letters/tiny-draft-k{k}-depth2-t1{name}.json"]) for name in ("", "-ids0-31")
        )
        assert judged["conditions"].pop("judged") == "0:32:1"
        assert judged == plain


def test_a_pattern_that_the_texts_do_not_have_is_told(project) -> None:
    result = project.run(STEPS_OF_TWO, "--specdec-update=new", ok=False)
    result.stdout.fnmatch_lines(["*the texts are no steps of 2 tokens * 0:32*check --specdec-judged*"])
    assert project.baselines == {}


def test_judged_and_plain_baselines_are_told_apart(project) -> None:
    project.create(EVERY_TOKEN)
    rows = project.report(EVERY_TOKEN)
    assert {row["verdict"] for row in rows} == {"pass"}
    assert {row["judged"] for row in rows} == {"0:32:1"}
    assert {row["verdict"] for row in project.report()} == {"error"}
    path = project.pytester.path / "baselines/letters"
    (path / "tiny-draft-k4-depth0-t1-ids0-31.json").rename(path / "tiny-draft-k4-depth0-t1.json")
    project.run("-k", "k4-depth0", ok=False).stdout.fnmatch_lines(["*judged was '0:32:1' in the baseline and is None*"])


def test_a_worse_drafter_is_explained_token_by_token(project, tmp_path: Path) -> None:
    project.create(EVERY_TOKEN)
    noisy = add_noise(project.draft, tmp_path / "noisy", 1.0)
    result = project.run(EVERY_TOKEN, f"--specdec-draft={noisy}", "--specdec-k=8", "--specdec-depth=0", ok=False)
    result.stdout.fnmatch_lines(["*acceptance fell most at * drafted by head 0 *"])


@pytest.mark.parametrize("value", ["5", "8:8", "9:2", "1:2:0", "a:b", "-1:4", "1:2:3:4", ""])
def test_a_range_that_is_none_is_refused(project, value: str) -> None:
    result = project.run(f"--specdec-judged={value}", ok=False)
    assert "is no range of token ids; write FIRST:END" in result.stderr.str()


def test_the_marker_and_the_ini_file_name_it_too(project) -> None:
    project.create(EVERY_TOKEN)
    project.pytester.makeini("[pytest]\nspecdec_judged = 0:32\n")
    assert {row["judged"] for row in project.report()} == {"0:32:1"}
    project.pytester.makeini("[pytest]\n")
    test = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, depth=0, new_tokens=24, judged=JUDGED)
def test_draft(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""
    project.write_test(test.replace("JUDGED", "'0:32'"))
    project.run(ok=True)
    project.write_test(test.replace("JUDGED", "32"))
    project.run(ok=False).stderr.fnmatch_lines(["*judged=32 is not str; pass a string like '41:297'"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--specdec-engine=decode",), "*takes other tokens as given and engine 'decode' decodes them all*"),
        (("--specdec-draft=prompt-lookup", "--specdec-depth=0"), "*needs a model's probabilities, and prompt-lookup has none*"),
    ],
)
def test_what_judges_no_given_tokens_is_refused(project, arguments: tuple[str, ...], message: str) -> None:
    project.run(EVERY_TOKEN, *arguments, ok=False).stderr.fnmatch_lines([message])
