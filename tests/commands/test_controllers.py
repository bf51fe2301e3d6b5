"""`python -m pytest_specdec controllers` on the tiny pair."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pytest_specdec.__main__ import main
from pytest_specdec.commands.controllers import chosen
from pytest_specdec.common.errors import RequestError
from pytest_specdec.speedup.controllers import AcceptanceGate, FixedDrafts, HeuristicSchedule
from pytest_specdec.speedup.cost_profile import CostProfile
from pytest_specdec.speedup.learning_controllers import AdaptiveSteps

pytestmark = pytest.mark.slow

TIMES = {1: 1.0, 4: 3.0}
COSTS = CostProfile(
    target_ms=3.0, verify=TIMES, draft={0: TIMES, 1: TIMES}, own_heads={1: TIMES}, lookup=TIMES
)


@pytest.fixture
def command(tmp_path: Path, tiny_target: Path) -> list[str]:
    (tmp_path / "prompts.jsonl").write_text(
        "".join(
            json.dumps({"category": "all", "prompt": word}) + "\n"
            for word in ("apple", "banana", "cherry")
        )
    )
    for size in (1, 8):
        costs = dataclasses.replace(COSTS, batch_size=size, target_ms=3.0 if size == 1 else 0.5)
        (tmp_path / f"costs-{size}.json").write_text(costs.to_json())
    return [
        "controllers",
        "--target",
        str(tiny_target),
        "--prompts",
        str(tmp_path / "prompts.jsonl"),
        "--costs",
        str(tmp_path / "costs-1.json"),
        "--k",
        "4",
        "--new-tokens",
        "16",
        "--device",
        "cpu",
    ]


@pytest.mark.parametrize(
    ("drafter", "options", "stops"),
    [
        ("draft", [], True),
        ("draft", ["--depth", "1"], False),
        ("mtp", [], False),
        ("prompt-lookup", ["--temperature", "0"], False),
        ("draft", ["--k", "1"], True),
    ],
)
def test_every_drafter_has_its_controllers(
    command: list[str],
    tiny_draft: Path,
    capsys: pytest.CaptureFixture[str],
    drafter: str,
    options: list[str],
    stops: bool,
) -> None:
    path = str(tiny_draft) if drafter == "draft" else drafter
    assert main([*command, "--draft", path, *options]) == 0
    out = capsys.readouterr().out
    assert out.startswith("controller")
    assert ("stop below 0.4" in out) == stops
    assert "oracle" in out
    assert "fastest: " in out
    assert max(map(len, out.split("fastest: ")[0].splitlines())) <= 80


def test_a_load_gets_a_schedule(
    command: list[str], tiny_draft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["--draft", str(tiny_draft), "--costs", str(tmp_path / "costs-8.json")]
    assert main([*command, *both, "--load", "1=0.25,8=0.75"]) == 0
    (tmp_path / "trace").write_text("1\n8\n8\n")
    shares = capsys.readouterr().out
    assert main([*command, *both, "--trace", str(tmp_path / "trace")]) == 0
    traced = capsys.readouterr().out
    assert shares.startswith("times at batch size 1, of the first profile:")
    assert main([*command, *both]) == 2
    assert "several --costs are for --load or --trace" in capsys.readouterr().err
    for out in (shares, traced):
        assert "batch size  best k  speed-up" in out
        assert "schedule over plain decoding: " in out
    # At batch size 8 the target's step costs less than any draft.
    assert "8       0    1.000x" in shares


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--load", "1=0.5"], "sum to 1"),
        (["--load", "1"], "is not like"),
        (["--load", "2=1"], "no cost profile has batch size 2"),
        (["--controller", "nonsense"], "no controller 'nonsense'"),
        (["--controller", "gate"], "no controller 'gate'"),
        (["--controller", "heuristic=9"], "between 1 and k"),
        (["--controller", "confidence=1.5"], "between 0 and 1"),
        (["--controller", "moving-average=1,9"], "raise --k"),
    ],
)
def test_bad_options_are_refused(
    command: list[str],
    tiny_draft: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert main([*command, "--draft", str(tiny_draft), *options]) == 2
    assert message in capsys.readouterr().err


def test_the_target_as_its_own_draft_model_is_refused(
    command: list[str], tiny_target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--draft", str(tiny_target)]) == 2
    assert "is the target itself, so every draft is accepted" in capsys.readouterr().err


def test_names_are_controllers() -> None:
    round_ms = (10.0, 12.0, 14.0, 16.0, 18.0)
    assert chosen(["gate=3:1.5", "heuristic-transient", "confidence=0"], 4, round_ms, True) == [
        AcceptanceGate(4, 3, 1.5),
        HeuristicSchedule(4, 4),
        FixedDrafts(4),
    ]
    assert chosen(["moving-average"], 4, round_ms, False) == [AdaptiveSteps(candidate_steps=(1, 3))]
    with pytest.raises(RequestError, match="works only with a draft model"):
        chosen(["confidence"], 4, round_ms, False)
