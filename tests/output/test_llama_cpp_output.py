"""The page of a real llama.cpp server that drafts: right beside a server without a drafter and beside the
target's weights, wrong where its acceptance is synthetic.
"""

from __future__ import annotations

import pytest
from helpers.llama_server import llama_server
from helpers.support import EMBEDDED

from pytest_specdec.__main__ import main

TARGET, DRAFT = EMBEDDED / "text-target-eos", EMBEDDED / "text-draft"
PROMPTS = EMBEDDED.parent / "engines" / "prompts.jsonl"
OPTIONS = ["--k", "3", "--target", str(TARGET), "--draft", str(DRAFT), "--seed", "1"]
OPTIONS += ["--prompts", str(PROMPTS), "--texts", "8"]
REQUIRED = ("endings", "texts", "batches", "streams", "constraints", "counters", "oracle")


def test_a_right_server_passes_every_check_but_tool_calls(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with llama_server("target-eos", "draft") as url, llama_server("target-eos") as reference:
        required = [word for name in REQUIRED for word in ("--require", name)]
        status = main(["check-engine", url, "--reference", reference, *OPTIONS, *required])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "check-engine: 7 checks ok (exit status 0)" in printed
    assert "8 texts of t1 end as they should" in " ".join(printed.split())


def test_synthetic_acceptance_is_wrong_text(capsys: pytest.CaptureFixture[str]) -> None:
    with (
        llama_server("target-eos", "draft", "0.8,0.5,0.25") as url,
        llama_server("target-eos") as reference,
    ):
        status = main(["check-engine", url, "--reference", reference, *OPTIONS])
    printed = " ".join(capsys.readouterr().out.split())
    assert status == 1, printed
    assert "has another greedy text than without a drafter, and no tie explains it" in printed
