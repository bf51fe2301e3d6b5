"""`python -m pytest_specdec doctor` on an embedded head and on refused ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.eagle3 import edit_tensors, write_head
from helpers.misread import DEFECTS, MODELS, misread_copy
from helpers.support import llama

from pytest_specdec.__main__ import main

PROMPTS = MODELS.parent / "text" / "prompts.jsonl"
SMALL = ["--texts", "16", "--new-tokens", "40", "--k", "3", "--device", "cpu"]
BY_NAME = {defect.name: defect for defect in DEFECTS}


def asked(head: Path | str, target: str = "text-target", *options: str) -> int:
    pair = [str(head), "--target", str(MODELS / target), "--prompts", str(PROMPTS)]
    return main(["doctor", *pair, *SMALL, *options])


def words(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    lines = capsys.readouterr().out.splitlines()
    return lines, " ".join(line.strip() for line in lines)


def test_a_right_head(capsys: pytest.CaptureFixture[str]) -> None:
    status = asked(MODELS / "text-eagle3")
    lines, text = words(capsys)
    assert status in (0, 3)
    assert f"verdict: {'read as trained' if status == 0 else 'undecided'}" in lines
    assert max(map(len, lines)) <= 80
    assert "as written: states 1, 2, 3 *" in text
    assert "Who reads this folder in another way" not in text  # four layers have no usual states


def test_a_misread_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defect = BY_NAME["d2t holds the target's ids"]
    assert asked(misread_copy(defect, tmp_path / "head")) == 1
    lines, text = words(capsys)
    assert "verdict: trained for another reading" in lines
    assert (
        "The drafter was trained for: d2t holds the target's ids. Read so, the acceptance" in text
    )
    assert (
        "Correct: - d2t: it holds the target's ids; save offsets, d2t - torch.arange(len(d2t))"
        in (text)
    )
    assert "- the loader also says: " in text
    assert max(map(len, lines)) <= 80


def test_few_texts_decide_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(MODELS / "text-eagle3", "text-target", "--texts", "4") == 3
    lines, text = words(capsys)
    assert "verdict: undecided" in lines
    assert "4 texts are too few; give at least 8 prompts, better 32." in text


def test_random_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = MODELS / "deep-target"
    head = write_head(tmp_path / "head", target, ids=(2, 4, 5), drafted=100)
    assert asked(head, "deep-target", "--texts", "8", "--new-tokens", "24", "--k", "2") == 1
    lines, text = words(capsys)
    assert "verdict: no reading gives more than a drafter that knows nothing" in lines
    assert "The weights are random, broken, or for another target" in text


def test_own_heads(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("mtp") in (0, 3)
    lines, text = words(capsys)
    assert lines[0].startswith("3 MTP layers of ")
    assert "An engine at depth 1 uses the first layer alone" in text or "undecided" in text


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("HEAD", ["--temperature", "0"], "which are 0 or 1 at temperature 0; use --temperature"),
        ("prompt-lookup", [], "prompt-lookup is no EAGLE-3 head; name the folder of one, or mtp"),
        ("mtp", [], "has no MTP layers"),
        ("HEAD", ["--k", "64"], "no text is long enough for a round of k=64"),
    ],
)
def test_refusals(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    head: str,
    options: list[str],
    message: str,
) -> None:
    target = llama(tmp_path / "llama", seed=3, layers=8, mtp_layers=0)
    written = write_head(tmp_path / "head", target)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"category": "a", "prompt": "abc"}) + "\n")
    pair = [head.replace("HEAD", str(written)), "--target", str(target), "--prompts", str(prompts)]
    assert main(["doctor", *pair, *SMALL, *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_is_no_head_for_the_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = write_head(tmp_path / "head", MODELS / "deep-target", ids=(2, 4, 5))
    edit_tensors(head, norm__weight=torch.ones(3))
    assert asked(head, "deep-target") == 2
    assert "norm.weight of" in capsys.readouterr().err
