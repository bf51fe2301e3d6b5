"""`python -m pytest_specdec doctor` on an embedded head and on refused ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from helpers.eagle3 import edit_tensors, write_head
from helpers.misread import DEFECTS, MODELS, misread_copy
from helpers.support import llama

from pytest_specdec.__main__ import main
from pytest_specdec.doctor.diagnosis import DoctorOutcome

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
    if status == 0:
        assert "cannot read it: states 2, 2, 1 of 4 layers are not different ones" in text


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
    assert "Who reads this folder in another way once it is corrected as above" in text
    assert "cannot read it: states 2, 2, 1 of 4 layers are not different ones" in text
    assert lines[-1] == "doctor: trained for another reading (exit status 1)"
    assert max(map(len, lines)) <= 80


def test_few_texts_decide_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked(MODELS / "text-eagle3", "text-target", "--texts", "4") == 3
    lines, text = words(capsys)
    assert "verdict: undecided" in lines
    assert "4 texts are too few; give at least 8 prompts, better 32." in text
    assert "has 76 more prompts: --texts=80 reads all" in text


@pytest.mark.exhaustive
def test_random_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = MODELS / "deep-target"
    head = write_head(tmp_path / "head", target, ids=(2, 4, 5), drafted=100)
    assert asked(head, "deep-target", "--texts", "32", "--new-tokens", "24", "--k", "2") == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    text = " ".join(line.strip() for line in lines)
    assert lines[-1] == f"doctor: {DoctorOutcome.NOTHING.words} (exit status 1)"
    progress = captured.err.splitlines()
    assert "doctor: loading the target" in progress
    assert any(line.startswith("doctor: measuring readings (") for line in progress)
    assert any(line.startswith("doctor: screening pairs of changes (") for line in progress)
    assert "verdict: no reading gives more than a drafter that knows nothing" in lines
    assert "The weights are random, broken, or for another target" in text


def test_own_heads(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("mtp") in (0, 3)
    lines, text = words(capsys)
    assert lines[0].startswith("3 MTP layers of ")
    assert "An engine at depth 1 uses the first layer alone" in text or "undecided" in text


REFUSALS = [
    ("HEAD", ["--temperature", "0"], "which are 0 or 1 at temperature 0; use --temperature"),
    ("prompt-lookup", [], "prompt-lookup is no EAGLE-3 head; HEAD is the folder of an EAGLE-3"),
    ("TARGET", [], "is no EAGLE-3 head; HEAD is the folder of an EAGLE-3 head, or mtp for"),
    ("nowhere/head", [], "no folder at nowhere/head; HEAD is the folder of an EAGLE-3 head"),
    ("mtp", [], "has no MTP layers"),
    ("HEAD", ["--k", "40"], "no text of 40 new tokens is long enough for a round of k=40"),
    ("HEAD", ["--prompts", "none.jsonl"], "(No such file or directory); name one with --prompts"),
    ("HEAD", ["--target", "HEAD"], "name the target that it drafts for with --target=PATH"),
    ("CUT", [], "config.json:1 is not JSON"),
    ("eagle3:CUT", [], "config.json:1 is not JSON"),
    ("EMPTY", [], "has no config.json; HEAD is the folder of an EAGLE-3 head"),
    ("eagle3:EMPTY", [], "has no config.json; HEAD is the folder of an EAGLE-3 head"),
    ("HEAD", ["--target", "EMPTY"], "has no config.json; name the target's transformers"),
]


@pytest.mark.parametrize(("head", "options", "message"), REFUSALS)
def test_refusals(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    head: str,
    options: list[str],
    message: str,
) -> None:
    """Without torch, which takes seconds to import."""
    target = llama(tmp_path / "llama", seed=3, layers=8, mtp_layers=0)
    folders = {
        "HEAD": write_head(tmp_path / "head", target),
        "CUT": write_head(tmp_path / "cut", target),
        "EMPTY": write_head(tmp_path / "empty", target),
        "TARGET": target,
    }
    cut = folders["CUT"] / "config.json"
    cut.write_text(cut.read_text()[:40])
    (folders["EMPTY"] / "config.json").unlink()
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"category": "a", "prompt": "abc"}) + "\n")
    words = [head, "--target", "TARGET", "--prompts", str(prompts), *SMALL, *options]
    for name, folder in folders.items():
        given = {name: str(folder), f"eagle3:{name}": f"eagle3:{folder}"}
        words = [given.get(word, word) for word in words]
    monkeypatch.setitem(sys.modules, "pytest_specdec.decoding.loading", None)
    monkeypatch.delitem(sys.modules, "pytest_specdec.doctor.page", raising=False)
    monkeypatch.delitem(sys.modules, "pytest_specdec.doctor.measure", raising=False)
    assert main(["doctor", *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert "specdec-" not in said
    assert "pytest_specdec.doctor.measure" not in sys.modules  # imports torch


def test_help_says_the_exit_statuses_and_how_long_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    said = capsys.readouterr().out
    assert [f"  {status}  " in said for status in range(4)] == [True] * 4
    assert "one pass of the head for\neach reading" in said


def test_a_folder_that_is_no_head_for_the_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = write_head(tmp_path / "head", MODELS / "deep-target", ids=(2, 4, 5))
    edit_tensors(head, norm__weight=torch.ones(3))
    assert asked(head, "deep-target") == 2
    assert "norm.weight of" in capsys.readouterr().err
