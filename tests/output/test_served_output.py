"""Public defects of what servers return, each in a server on loopback: found by its check, while the
same server without it passes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.playback import Answer, playing
from helpers.served_texts import DEFECTS, TEXTS, ToySpeculation, toy_server

from pytest_specdec.__main__ import main
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import DraftCountError
from pytest_specdec.output import checks
from pytest_specdec.output.checks import CHECKS, examined
from pytest_specdec.output.results import (
    CheckOutcome,
    OutputReport,
    OutputResult,
    failed,
    passed,
    unchecked,
)
from pytest_specdec.output.stop_tokens import check_stop_tokens
from pytest_specdec.output.subject import OutputSubject
from pytest_specdec.output.text_server import TextServer

pytestmark = pytest.mark.slow

PROMPTS = tuple(Prompt(name, "all", name) for name in TEXTS)
MADE = ("endings", "texts", "batches", "streams", "tool calls", "constraints")


def report(
    url: str, reference: str, *, only: str | None = None, required: Sequence[str] = ()
) -> OutputReport:
    """The page, or one check of it."""
    subject = OutputSubject(
        name="toy",
        prompts=PROMPTS,
        new_tokens=48,
        server=TextServer.at(url),
        reference=TextServer.at(reference),
        concurrency=(1, 4),
    )
    with pytest.MonkeyPatch.context() as patch:
        if only is not None:
            patch.setattr(checks, "CHECKS", {only: CHECKS[only]})
        return examined(subject, frozenset(required))


def outcomes(report: OutputReport) -> dict[str, CheckOutcome]:
    return {result.name: result.outcome for result in report.results}


def test_a_right_server_passes_every_check_that_needs_no_weights() -> None:
    with toy_server() as url, toy_server() as reference:
        found = report(url, reference)
    assert found.right, found.message
    assert found.message == "6 checks ok; nothing to do"
    assert [name for name, outcome in outcomes(found).items() if outcome is CheckOutcome.OK] == [
        *MADE
    ]
    assert set(CHECKS) - set(MADE) == {"counters", "oracle", "soak"}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_public_defect_is_found_by_its_check(defect: str) -> None:
    only = DEFECTS[defect] if DEFECTS[defect] in ("batches", "constraints") else None
    with toy_server(defect) as url, toy_server() as reference:
        found = report(url, reference, only=only)
    assert found.status == 1
    assert outcomes(found)[DEFECTS[defect]] is CheckOutcome.FAILED, found
    assert found.message.startswith(found.failures[0].name)


SENTENCES = {
    "tokens after EOS": "has another greedy text than without a drafter",
    "a stop is looked for after each round": "the text continues after the stop",
    "the limit hides EOS": "the text ends by itself and the engine reports 'length', not 'stop'",
    "a stop token inside a round is missed": "go on after their stop token",
    "every text ends by stop": "the limit ends the text and the engine reports 'stop'",
    "pieces are decoded alone": "the stream has a broken character in piece",
    "a round's first token goes into a tool call": "the arguments streamed are no JSON",
    "another token in a batch of four": "another greedy text than alone; look for what rows share",
    "rows end with the first of a batch": "the text ends after 12 tokens",
    "a mask is one row late": "mask each row of a round after its own prefix",
}


@pytest.mark.parametrize("defect", SENTENCES)
def test_the_first_divergence_is_said_with_its_context(defect: str) -> None:
    with toy_server(defect) as url, toy_server() as reference:
        found = report(url, reference, only=DEFECTS[defect])
    (failure,) = [one for one in found.failures if one.name == DEFECTS[defect]]
    assert SENTENCES[defect] in failure.words
    assert any("⟦" in line or line.startswith("arguments") for line in failure.context) or (
        "the engine reports" in failure.words or "their stop token" in failure.words
    )


def test_a_batch_whose_text_parts_at_a_tie_is_not_accused() -> None:
    with toy_server("another token in a batch of four", tied=True) as url, toy_server() as other:
        found = report(url, other, only="batches")
    assert outcomes(found)["batches"] is CheckOutcome.OK
    (batches,) = [result for result in found.results if result.name == "batches"]
    assert "numerical ties" in batches.words


def test_what_is_required_and_not_checked_is_not_green() -> None:
    with toy_server() as url, toy_server() as reference:
        found = report(url, reference, required=["counters"])
    assert (found.right, found.status) == (False, 3)
    assert found.message.startswith("counters: the engine's own counts are needed")


def prompts_file(folder: Path) -> Path:
    path = folder / "prompts.jsonl"
    lines = (json.dumps({"category": "all", "prompt": name}) for name in TEXTS)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_the_command_prints_and_writes_one_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    with toy_server("stops are ignored") as url, toy_server() as reference:
        options = ["--prompts", str(prompts_file(tmp_path)), "--new-tokens", "48", "-o", str(page)]
        right = main(["check-engine", reference, *options])
        green = capsys.readouterr().out
        wrong = main(["check-engine", url, "--reference", reference, *options])
    assert (right, wrong) == (0, 1)
    assert green.splitlines()[-1] == "check-engine: 5 checks ok (exit status 0)"
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "check-engine: 1 of 6 checks failed (exit status 1)" in printed
    assert "returned: " in printed
    assert "| endings | failed | prompt 0, stop " in page.read_text()
    assert "First divergence of *endings*" in page.read_text()


def test_lines_name_the_options_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy_server() as url:
        main(["check-engine", url, "--prompts", str(prompts_file(tmp_path)), "--new-tokens", "48"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "without a drafter by --reference URL, or the target's weights by --k K" in printed
    assert "--specdec-" not in printed


def test_a_reference_that_does_not_answer_is_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--prompts", str(prompts_file(tmp_path)), "--reference"]
    with toy_server() as url, playing({"/v1/models": [Answer("no", status=404)]}) as stage:
        assert main(["check-engine", url, *options, stage.url]) == 2
    assert "HTTP 404" in capsys.readouterr().err


def test_a_wrong_k_is_the_callers_and_no_failed_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def drafts_three(subject: OutputSubject) -> OutputResult:
        raise DraftCountError("no round drafts more than 3 tokens; use --specdec-k=3")

    monkeypatch.setattr(checks, "CHECKS", {"counters": drafts_three})
    with toy_server() as url:
        assert main(["check-engine", url, "--prompts", str(prompts_file(tmp_path))]) == 2
    assert capsys.readouterr().err.endswith("3 tokens; use --k=3\n")


def test_what_a_server_refuses_is_not_checked_and_its_answer_is_shown() -> None:
    plays = ToySpeculation().plays()
    refused = Answer("requires --tool-call-parser to be set", status=400)
    with playing({**plays, "/v1/chat/completions": [refused]}) as stage:
        found = report(stage.url, stage.url, only="tool calls")
    assert outcomes(found)["tool calls"] is CheckOutcome.UNCHECKED
    assert found.results[0].words == (
        "the server refuses this (/v1/chat/completions: HTTP 400 (requires --tool-call-parser to "
        "be set)); its answer says what is missing"
    )


def test_lines_of_every_outcome_name_the_options_of_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "use --specdec-k=3"
    made: dict[str, Any] = {
        "one": lambda subject: passed("one", said),
        "two": lambda subject: failed("two", said),
        "three": lambda subject: unchecked("three", said),
    }
    monkeypatch.setattr(checks, "CHECKS", made)
    for own, shown in (({"k": "--k"}, "use --k=3"), (None, said)):
        subject = OutputSubject(name="toy", prompts=PROMPTS, new_tokens=48, own_options=own)
        assert {result.words for result in examined(subject).results} == {shown}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--soak", "96"], "--soak needs the draft tokens per round of the server, too"),
        (["--target", "."], "--target needs the draft tokens per round of the server, too"),
        (["--draft", "mtp"], "--draft needs the draft tokens per round of the server, too"),
        (["--k", "3", "--target", "missing"], "no checkpoint folder at "),
        (["--k", "3", "--target", ".", "--draft", "missing"], "no checkpoint folder at "),
    ],
)
def test_what_is_named_and_cannot_be_used_is_exit_status_2(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plays = ToySpeculation().plays()
    card = {"id": "toy", "owned_by": "vllm"}
    plays["/v1/models"] = [Answer(json.dumps({"data": [card]}))]
    with playing(plays) as stage:
        assert main(["check-engine", stage.url, *options]) == 2
    assert words in capsys.readouterr().err


def test_a_required_check_that_does_not_exist_is_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy_server() as url:
        options = ["--prompts", str(prompts_file(tmp_path)), "--texts", "1", "--require", "text"]
        assert main(["check-engine", url, *options]) == 2
    assert "there is no check 'text'; choose among endings, texts, " in capsys.readouterr().err


def test_ids_that_a_server_does_not_return_or_not_obey_are_named() -> None:
    def changed(**owner: str) -> str:
        plays = ToySpeculation().plays()
        right = plays["/v1/completions"][0]
        assert callable(right)
        if owner:
            card = {"id": "toy", "owned_by": owner["owned_by"]}
            plays["/v1/models"] = [Answer(json.dumps({"data": [card]}))]
        dropped = ("stop_token_ids",) if owner else ("return_token_ids", "stop_token_ids")
        plays["/v1/completions"] = [
            lambda body: right({name: body[name] for name in body if name not in dropped})
        ]
        with playing(plays) as stage:
            found = check_stop_tokens(TextServer.at(stage.url), PROMPTS, 48)
        return found.fault or found.doubt

    assert changed() == "the server returns no token ids"
    assert "ignores stop_token_ids" in changed(owned_by="toy")
    assert "go on after their stop token" in changed(owned_by="vllm")
