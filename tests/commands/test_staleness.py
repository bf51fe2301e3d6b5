"""`python -m pytest_specdec staleness` on copies of the tiny target."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from pytest_specdec.__main__ import main
from pytest_specdec.speedup.cost_profile import CostProfile

COSTS = CostProfile(target_ms=3.0, verify={1: 4.0, 4: 6.0}, draft={0: {1: 1.0, 4: 2.0}})


@pytest.fixture
def command(tmp_path: Path, tiny_target: Path, tiny_draft: Path) -> list[str]:
    for number, share in enumerate((0.0, 0.0, 0.3)):
        folder = tmp_path / f"step-{number}"
        shutil.copytree(tiny_target, folder)
        file = folder / "model.safetensors"
        weights = load_file(file)
        changed = {
            name: weight * (1 + share) if weight.dim() > 1 else weight
            for name, weight in weights.items()
        }
        save_file(changed, file, metadata={"format": "pt"})
    (tmp_path / "prompts.jsonl").write_text(
        "".join(
            json.dumps({"category": "all", "prompt": word}) + "\n"
            for word in ("apple", "banana", "cherry")
        )
    )
    (tmp_path / "costs.json").write_text(COSTS.to_json())
    return [
        "staleness",
        "--targets",
        str(tmp_path / "step-*"),
        "--draft",
        str(tiny_draft),
        "--prompts",
        str(tmp_path / "prompts.jsonl"),
        "--k",
        "2",
        "--new-tokens",
        "12",
        "--device",
        "cpu",
    ]


def test_the_curve_of_a_sequence(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "curve.json"
    costs = ["--costs", str(tmp_path / "costs.json"), "--tokens-per-step", "1e6"]
    costs += ["--retraining-hours", "1000", "--margin", "0.9"]
    assert main([*command, *costs, "--fresh-every", "2", "-o", str(output)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["step-0", "step-1", "step-2"]
    assert "+0.00% to +0.00%" in lines[2]  # the same weights again
    assert "step-2 on texts of its own: loss " in out
    assert "no target's loss is surely above " in out
    assert "training does not pay yet: " in " ".join(out.split())
    assert max(map(len, lines)) <= 80
    curve = json.loads(output.read_text())
    assert curve["points"][1]["loss"] == pytest.approx(0, abs=1e-6)
    assert curve["break_even"]["at"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--targets", "nothing-*"], "no folder matches --targets="),
        (["--margin", "1.5"], "--margin lies in"),
        (["--alpha", "0"], "--alpha in"),
        (["--tokens-per-step", "5"], "pass all three"),
        (["--retraining-hours", "5"], "pass all three"),
        (["--retraining-hours", "nan"], "are finite; correct them"),
        (["--tokens-per-step", "inf"], "are finite; correct them"),
    ],
)
def test_bad_options_are_refused(
    command: list[str], capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err


def test_one_target_is_no_sequence(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--targets", str(tmp_path / "step-1*")]) == 2
    assert "at least two" in capsys.readouterr().err
