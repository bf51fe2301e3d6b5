"""--specdec-judged: some tokens are judged, the others are given; a case, and a baseline, of its
own.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.support import LETTERS, add_noise
from plugin.conftest import Project, facts

from pytest_specdec.acceptance.text_origin import Origin
from pytest_specdec.baselines.writing import digest_of
from pytest_specdec.judging import decisions

EVERY_TOKEN = "--specdec-judged=0:32"
STEPS_OF_TWO = "--specdec-judged=0:32:2"
SECOND_OF_TWO = "--specdec-judged=10:31:2"
SECONDS = LETTERS[10 - 2 :]
"""The letters of the ids from 10 on."""


def slip(project: Project, prompts: int) -> None:
    """Put a judged token at a given place near the start of the last texts."""
    path = project.pytester.path / "baselines/letters/texts/t1-n24-s0.json"
    data = json.loads(path.read_text())
    for key in sorted(data["texts"])[-prompts:] if prompts else ():
        data["texts"][key][4] = 10
    write(path, data)


def write(path: Path, data: dict) -> None:
    """A stored file with changes, and the digest that fits them."""
    del data["digest"]
    path.write_text(json.dumps(data | {"digest": digest_of(data)}, indent=2))


@pytest.fixture
def steps(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project on stored texts whose new tokens take turns: an id below 10, one of 10 to 30."""
    # The target would not emit them, and the drafter knows nothing of them: what counts here is
    # which tokens are judged.
    monkeypatch.setattr(Origin, "check", lambda self: None)
    monkeypatch.setattr(decisions, "no_better", lambda *known, **named: None)
    project.create()
    folder = project.pytester.path / "baselines/letters"
    for path in (*folder.glob("*.json"), *(folder / "tokens").glob("*.json")):
        path.unlink()
    path = folder / "texts/t1-n24-s0.json"
    data = json.loads(path.read_text())
    for new in data["texts"].values():
        new[:] = [10 + token % 21 if at % 2 else 2 + token % 8 for at, token in enumerate(new)]
    write(path, data)
    project.create(SECOND_OF_TWO)
    return project


def test_judging_every_token_gives_plain_figures_under_another_name(project) -> None:
    project.create()
    project.create(EVERY_TOKEN)
    for k in (4, 8):
        plain, judged = (
            json.loads(project.baselines[f"letters/tiny-draft-k{k}-depth2-t1{name}.json"])
            for name in ("", "-ids0-31")
        )
        assert judged["conditions"].pop("judged") == "0:32:1"
        assert judged.pop("case") == f"{plain.pop('case')}-ids0-31"
        assert judged.pop("digest") != plain.pop("digest")
        assert judged == plain


def test_a_pattern_that_the_texts_do_not_have_is_reported(project) -> None:
    result = project.run(STEPS_OF_TWO, "--specdec-update=new", ok=False)
    result.stdout.fnmatch_lines(
        ["*the texts do not consist of steps of 2 tokens * 0:32*check --specdec-judged*"]
    )
    assert project.baselines == {}


def test_judged_and_plain_baselines_are_distinguished(project) -> None:
    project.create(EVERY_TOKEN)
    rows = project.report(EVERY_TOKEN)
    assert {row["verdict"] for row in rows} == {"pass"}
    assert {row["judged"] for row in rows} == {"0:32:1"}
    assert {row["verdict"] for row in project.report()} == {"error"}
    path = project.pytester.path / "baselines/letters"
    data = json.loads((path / "tiny-draft-k4-depth0-t1-ids0-31.json").read_text())
    write(path / "tiny-draft-k4-depth0-t1.json", data | {"case": "tiny-draft-k4-depth0-t1"})
    project.run("-k", "k4-depth0", ok=False).stdout.fnmatch_lines(
        ["*judged was '0:32:1' in the baseline and is None*"]
    )


def test_a_worse_drafter_is_explained_token_by_token(project, tmp_path: Path) -> None:
    project.create(EVERY_TOKEN)
    noisy = add_noise(project.draft, tmp_path / "noisy", 1.0)
    result = project.run(
        EVERY_TOKEN, f"--specdec-draft={noisy}", "--specdec-k=8", "--specdec-depth=0", ok=False
    )
    assert any(
        re.match("  tokens     acceptance fell most at .* drafted by head 0 ", line)
        for line in facts(result.stdout.lines)
    )


def test_the_second_of_two_tokens_has_baselines_tokens_and_samples_of_its_own(steps) -> None:
    names = {
        f"letters/tiny-draft-k{k}-depth{depth}-t1-ids10-30.json" for k in (4, 8) for depth in (0, 2)
    }
    tokens = {f"letters/tokens/tiny-draft-head{head}-t1-n24-s0-ids10-30.json" for head in range(2)}
    assert set(steps.stored) == names | tokens | {"letters/texts/t1-n24-s0.json"}
    for name in tokens:
        # Of 12 judged tokens the prompt pass emits the first.
        assert {
            len(row["accept"]) for row in json.loads(steps.stored[name])["tokens"].values()
        } == {11}
    stored = json.loads(steps.stored["letters/tiny-draft-k4-depth2-t1-ids10-30.json"])
    assert stored["conditions"]["judged"] == "10:31:2"
    rows = steps.report(SECOND_OF_TWO)
    assert {row["verdict"] for row in rows} == {"pass"}
    for row in rows:
        samples = row["samples"]
        assert (samples["count"], row["judged"]) == (12, "10:31:2")
        assert len(samples["survival"]) == row["k"]
        assert samples["rate"]["mean"] * row["k"] == pytest.approx(samples["accepted"]["mean"])
        assert sum(samples["survival"]) == pytest.approx(samples["accepted"]["mean"])
        assert samples["drafted"] == {
            "mean": row["k"],
            "deviation": 0,
            "least": row["k"],
            "most": row["k"],
        }
        worst = [sample["accepted"] for sample in samples["worst"]]
        assert worst == sorted(worst)
        assert worst[0] == pytest.approx(samples["accepted"]["least"])


def test_what_a_judged_round_costs_is_reported_and_stored(steps) -> None:
    costs = {
        "schema": 1,
        "target_ms": 10.0,
        "verify": {"8": 12.0, "16": 14.0},
        "draft": {"0": {"4": 4.0, "8": 8.0}, "2": {"6": 5.0, "12": 9.0}},
    }
    (steps.pytester.path / "costs.json").write_text(json.dumps(costs))
    rows = {
        (row["k"], row["depth"]): row
        for row in steps.report(SECOND_OF_TWO, "--specdec-costs=costs.json")
    }
    times = {cell: (row["verify_ms"], row["draft_ms"]) for cell, row in rows.items()}
    assert times == {(4, 0): (12, 4), (8, 0): (14, 8), (4, 2): (12, 5), (8, 2): (14, 9)}
    for row in rows.values():
        assert row["speedup"] == pytest.approx(
            row["acceptance_length"] * 10 / (row["verify_ms"] + row["draft_ms"])
        )
        assert row["tokens_per_second"] == pytest.approx(
            1000 * row["acceptance_length"] / (row["verify_ms"] + row["draft_ms"])
        )


def test_a_loss_among_interleaved_tokens_is_reported_by_judged_tokens(
    steps, tmp_path: Path
) -> None:
    noisy = add_noise(steps.draft, tmp_path / "noisy", 1.0)
    result = steps.run(
        SECOND_OF_TWO, f"--specdec-draft={noisy}", "--specdec-k=4", "--specdec-depth=2", ok=False
    )
    diagnosis = {
        label: line
        for label in ("tokens", "contexts")
        for line in facts(result.stdout.lines)
        if line.startswith(f"  {label} ")
    }
    words = re.findall(r"'(.)' drafted by head ([01]) \((\d+) times", diagnosis["tokens"])
    assert len(words) == 3
    assert {word for word, _, _ in words} <= set(SECONDS)
    assert re.search(r"acceptance after 1 to 11 judged tokens -\d+\.\d\d %", diagnosis["contexts"])


def test_a_text_that_slips_is_cut_there_and_two_of_twelve_are_too_many(steps) -> None:
    slip(steps, 1)
    rows = steps.report(SECOND_OF_TWO, "--specdec-k=4", "--specdec-depth=0")
    assert [row["samples"]["count"] for row in rows] == [11]
    slip(steps, 2)
    rows = steps.report(SECOND_OF_TWO, "--specdec-k=4", "--specdec-depth=0")
    assert [row["verdict"] for row in rows] == ["error"]
    assert (
        "leaves the pattern after 2 steps; check --specdec-judged and that prompts end with a "
        "whole step" in rows[0]["reason"]
    )


def test_steps_of_another_length_are_other_conditions(steps) -> None:
    result = steps.run("--specdec-judged=10:31:1", "--specdec-k=4", "--specdec-depth=0", ok=False)
    assert "leaves the pattern after 0 steps" in result.stdout.str()
    path = steps.pytester.path / "baselines/letters/tiny-draft-k4-depth0-t1-ids10-30.json"
    write(path, json.loads(path.read_text().replace('"10:31:2"', '"10:31:1"')))
    result = steps.run(SECOND_OF_TWO, "--specdec-k=4", "--specdec-depth=0", ok=False)
    result.stdout.fnmatch_lines(["*judged was '10:31:1' in the baseline and is '10:31:2'*"])


def test_steps_longer_than_a_text_leave_no_round(project) -> None:
    result = project.run("--specdec-judged=0:32:50", ok=False)
    result.stdout.fnmatch_lines(
        ["*no text is long enough for a round of k=4; raise --specdec-new-tokens*"]
    )


def test_the_targets_own_heads_judge_too(steps) -> None:
    steps.write_test(
        "import pytest\n\n@pytest.mark.specdec(target={target!r}, drafter='mtp', k=4, depth=2, "
        "new_tokens=24, judged='10:31:2')\n"
        "def test_heads(specdec_run, specdec_baseline):\n    assert specdec_run == "
        "specdec_baseline\n"
    )
    steps.create()
    assert {name for name in steps.stored if "/mtp" in name} == {
        "letters/mtp-k4-depth2-t1-ids10-30.json",
        "letters/tokens/mtp-head0-t1-n24-s0-ids10-30.json",
    }
    (row,) = steps.report()
    assert (row["verdict"], row["judged"], row["samples"]["count"]) == ("pass", "10:31:2", 12)


@pytest.mark.parametrize("value", ["5", "8:8", "9:2", "1:2:0", "a:b", "-1:4", "1:2:3:4", ""])
def test_a_range_that_is_none_is_refused(project, value: str) -> None:
    result = project.run(f"--specdec-judged={value}", ok=False)
    assert "is not a range of token ids; write FIRST:END" in result.stderr.str()


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
    project.run(ok=False).stderr.fnmatch_lines(
        ["*judged=32 is not text; pass a string like '41:297'"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--specdec-engine=decode",),
            "*takes other tokens as given and engine 'decode' decodes them all*",
        ),
        (
            ("--specdec-draft=prompt-lookup", "--specdec-depth=0"),
            "*needs a model's probabilities, and prompt-lookup has none*",
        ),
    ],
)
def test_what_judges_no_given_tokens_is_refused(
    project, arguments: tuple[str, ...], message: str
) -> None:
    project.run(EVERY_TOKEN, *arguments, ok=False).stderr.fnmatch_lines([message])
