"""`python -m pytest_specdec policies` on the tiny pair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from helpers.eagle3 import write_head

from pytest_specdec.__main__ import main
from pytest_specdec.speedup.cost_profile import CostProfile

TIMES = {1: 1.0, 4: 3.0}
COSTS = CostProfile(
    target_ms=3.0,
    verify=TIMES,
    draft={0: TIMES, 1: TIMES},
    own_heads={1: TIMES},
    lookup=TIMES,
    drafters={"eagle3": {0: TIMES}},
)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "prompts.jsonl").write_text(
        "".join(
            json.dumps({"category": word[0], "prompt": word}) + "\n"
            for word in ("apple", "banana", "cherry")
        )
    )
    (tmp_path / "costs.json").write_text(COSTS.to_json())
    return ["--prompts", str(tmp_path / "prompts.jsonl"), "--costs", str(tmp_path / "costs.json")]


@pytest.mark.parametrize(
    ("drafter", "options", "stops"),
    [
        ("draft", [], True),
        ("draft", ["--depth", "1"], False),
        ("mtp", [], False),
        ("prompt-lookup", [], False),
        ("head", [], False),
    ],
)
def test_every_drafter_has_its_policies(
    files: list[str],
    tiny_target: Path,
    tiny_draft: Path,
    capsys: pytest.CaptureFixture[str],
    drafter: str,
    options: list[str],
    stops: bool,
    tmp_path: Path,
) -> None:
    head = write_head(tmp_path / "head", tiny_target, ids=(0, 1))
    paths = {"draft": str(tiny_draft), "head": str(head)}
    pair = ["--target", str(tiny_target), "--draft", paths.get(drafter, drafter)]
    assert (
        main(
            [
                "policies",
                *pair,
                *files,
                "--k",
                "4",
                "--new-tokens",
                "16",
                "--device",
                "cpu",
                *options,
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["policy", "drafted", "length", "speed-up", "of", "the", "oracle"]
    assert any(line.startswith("k by category  ") for line in lines)
    assert any(line.startswith("k by category: a ") for line in lines)
    assert max(map(len, lines)) <= 80
    assert "x the speed of the best fixed k (95 % interval " in " ".join(map(str.strip, lines))
    assert any(line.startswith("oracle") and line.endswith("100.0%") for line in lines)
    assert (
        any(
            line.startswith("stop below 0.4 ") and "transformers' default" in line for line in lines
        )
        == stops
    )
    assert any("none is listed" in line for line in lines) != stops


def test_the_times_of_a_draft_model_are_not_a_heads(
    files: list[str], tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = write_head(tmp_path / "head", tiny_target, ids=(0, 1))
    profile = dataclasses.replace(COSTS, drafters={})
    (tmp_path / "costs.json").write_text(profile.to_json())
    pair = ["--target", str(tiny_target), "--draft", str(head)]
    assert main(["policies", *pair, *files, "--k", "4"]) == 2
    assert "has no eagle3 times for depth 0; measure one with" in capsys.readouterr().err


def test_a_profile_without_the_targets_step_is_refused(
    files: list[str], tiny_target: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "costs.json").write_text(
        CostProfile(verify=TIMES, draft={}, lookup=TIMES).to_json()
    )
    assert main(["policies", "--target", str(tiny_target), "--draft", "prompt-lookup", *files]) == 2
    assert "has no target_ms; measure one with" in capsys.readouterr().err


def test_texts_too_short_for_a_round_are_refused(
    files: list[str], tiny_target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = ["--target", str(tiny_target), "--draft", "prompt-lookup"]
    assert (
        main(["policies", *pair, *files, "--k", "4", "--new-tokens", "2", "--device", "cpu"]) == 2
    )
    assert "no text is long enough for a round of k=4" in capsys.readouterr().err
