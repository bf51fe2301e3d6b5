"""A text ends by EOS, by a stop that was declared, or at the limit, and nothing follows an end:
else it was cut off.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.reports import PROMPT, request
from helpers.support import EMBEDDED, ROOT, edit_config

from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.common.errors import MeasurementError, RequestError, SpecdecError
from pytest_specdec.engines.adapter_api import CountingConvention, Reported, TextEnds
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.model_checks import conformance, ending_fault, oracle
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.text_endings import (
    TargetEnds,
    check_ending,
    ending_faults,
    target_ends,
)

TARGET = TargetEnds(frozenset({1}), frozenset({1, 9}), frozenset({0, 1, 9, 11}))
WORDS = ["", "a", "b", "\n", "c", "d"]


def decode(ids: Any) -> str:
    return "".join(WORDS[token % len(WORDS)] for token in ids)


def text(*new: int, **other: Any) -> Reported:
    return Reported(
        key="key0",
        prompt_ids=PROMPT,
        new_ids=new,
        convention=CountingConvention(),
        **({"where": "run.jsonl:2"} | other),
    )


RIGHT = {
    "EOS": (text(5, 6, 1), TARGET),
    "EOS of the tokenizer alone": (text(5, 6, 9), TARGET),
    "the limit": (text(*[5] * 8), TARGET),
    "EOS at the limit": (text(*[5] * 7, 1), TARGET),
    "EOS of some engines inside": (text(5, 9, *[5] * 6), TARGET),
    "a special token, and the engine calls it EOS": (text(5, 6, 11, finish="stop"), TARGET),
    "a declared token": (text(5, 6, 7, ends=TextEnds(stop=(7,))), TARGET),
    "a declared string": (text(5, 1, 3, ends=TextEnds(eos=(), stop=("a\n",))), TARGET),
    "EOS inside a text of an engine told to ignore it": (
        text(5, 1, *[5] * 6, ends=TextEnds(eos=())),
        TARGET,
    ),
    "declared EOS without the target's files": (text(5, 6, 4, ends=TextEnds(eos=(4,))), None),
    "the engine's word without the target's files": (text(5, 6, 4, finish="stop"), None),
    "the engine's word without ids": (text(emitted=3, finish="stop"), TARGET),
    "all of the tokens without ids": (text(emitted=8), None),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_text_that_ends_rightly_is_no_fault(name: str) -> None:
    text, target = RIGHT[name]
    check_ending(text, request(new_tokens=8), target, decode)
    assert ending_faults(text, 8, target, decode) == ()


WRONG = [
    (
        text(5, 6, 7),
        TARGET,
        r"run.jsonl:2, prompt key0: the text ends after 3 of 8 tokens with "
        r"token 7, which is neither EOS nor "
        r"a declared stop \(1, 9\); look for what cut it off, or declare what ends texts "
        r"\(docs/trace.md\)",
    ),
    (text(5, 6, 7, where=""), TARGET, "^prompt key0: the text ends after 3 of 8"),
    (
        text(5, 6, 7),
        TargetEnds(),
        r"which is neither EOS nor a declared stop \(none\); "
        r"look for",
    ),
    (
        text(5, 6, 7, finish="stop"),
        TARGET,
        r"which is neither EOS nor a declared stop \(0, 1, 9, "
        r"11\)",
    ),
    (text(5, 6, 11), TARGET, "with token 11, which is neither EOS"),
    (text(5, 6, 1, ends=TextEnds(eos=())), TARGET, "with token 1, which is neither EOS"),
    (
        text(5, 6, 7),
        None,
        "and it is unknown which tokens end a text; name the target's folder, or look for",
    ),
    (
        text(5, 6, 7, finish="length"),
        TARGET,
        "3 of 8 tokens and the engine reports that its limit is reached; raise",
    ),
    (text(*[5] * 8, finish="abort"), TARGET, "the engine ended it by 'abort'; look into its log"),
    (text(emitted=3), TARGET, "has neither token ids nor a finish_reason"),
    (
        text(5, 1, 6, 1),
        TARGET,
        "the text of 4 tokens continues after token 1, which ends a text, at "
        "place 2; let the engine end",
    ),
    (text(5, 1, *[5] * 6), TARGET, "the text of 8 tokens continues after token 1"),
    (
        text(5, 7, *[5] * 6, ends=TextEnds(stop=(7,))),
        None,
        "continues after token 7, which ends a text, at place 2",
    ),
    (
        text(1, 3, *[5] * 6, ends=TextEnds(eos=(), stop=("a\n",))),
        TARGET,
        r"continues after the "
        r"declared stop 'a\\n'",
    ),
    (text(5, 1, 4, ends=TextEnds(eos=(), stop=("a\n",))), TARGET, "with token 4, which is neither"),
]


@pytest.mark.parametrize(
    ("text", "target", "message"), WRONG, ids=[message[:50] for *_, message in WRONG]
)
def test_a_text_that_was_cut_off_is_an_error(
    text: Reported, target: TargetEnds | None, message: str
) -> None:
    with pytest.raises(MeasurementError, match=message):
        check_ending(text, request(new_tokens=8), target, decode)


REASONS = {
    "EOS at the limit, hidden by it": (
        text(*[5] * 7, 1, finish="length"),
        r"the text ends by token 1 and the engine reports that its limit of 8 tokens ended it",
    ),
    "a stop string at the limit, hidden by it": (
        text(*[5] * 6, 1, 3, finish="length", ends=TextEnds(eos=(), stop=("a\n",))),
        "the text ends by a declared stop and the engine reports that its limit",
    ),
    "a stop that is none": (
        text(*[5] * 8, finish="stop"),
        "ends at its limit of 8 tokens with token 5, and the engine reports a stop; report 'length'",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_wrong_reason_is_a_fault_of_the_output_and_none_of_what_is_measured(name: str) -> None:
    wrong, message = REASONS[name]
    check_ending(wrong, request(new_tokens=8), TARGET, decode)
    (fault,) = ending_faults(wrong, 8, TARGET, decode)
    assert fault.reason_alone
    assert message in fault.sentence
    other = {"stop": "length", "length": "stop"}[wrong.finish]
    assert ending_faults(dataclasses.replace(wrong, finish=other), 8, TARGET, decode) == ()


def test_a_reason_is_not_judged_where_it_cannot_be_told() -> None:
    unknown = text(*[5] * 8, finish="stop", ends=TextEnds(stop=("END",)))
    assert ending_faults(unknown, 8, TARGET, None) == ()
    assert ending_faults(text(*[5] * 8, finish="stop"), 8, None, None) == ()
    assert ending_faults(text(emitted=8, finish="stop"), 8, TARGET, None) == ()


def test_a_text_beyond_its_limit_is_a_fault() -> None:
    (fault,) = ending_faults(text(*[5] * 9), 8, TARGET)
    assert fault.sentence.endswith("9 tokens where 8 were asked for; set the engine's limit")
    assert not fault.reason_alone


def test_strings_need_the_tokenizer() -> None:
    with pytest.raises(
        RequestError,
        match=r"stops 'END' are strings, which need the target's tokenizer; name its folder by",
    ):
        check_ending(text(5, 6, 7, ends=TextEnds(stop=("END",))), request(new_tokens=8), None)


@pytest.fixture
def copy(tiny_target: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_target, tmp_path / "target")


@pytest.mark.parametrize(
    ("defaults", "configured", "eos", "known"),
    [
        ({"eos_token_id": [3, 4]}, 5, {3, 4}, {1, 3, 4, 5}),
        ({"eos_token_id": 3}, None, {3}, {1, 3}),
        ({}, 5, set(), {1, 5}),
        (None, 5, {5}, {1, 5}),
        (None, None, set(), {1}),
    ],
)
def test_eos_is_read_from_the_targets_files(
    copy: Path, defaults: dict | None, configured: int | None, eos: set, known: set
) -> None:
    """Token 1 is the tokenizer's `</s>`."""
    (copy / "generation_config.json").unlink()
    if defaults is not None:
        (copy / "generation_config.json").write_text(json.dumps(defaults))
    edit_config(copy, eos_token_id=configured)
    ends = target_ends(open_checkpoint(copy))
    assert (ends.eos, ends.known) == (eos, known)
    assert ends.special == {0, 1}


def test_a_generation_config_that_is_no_json_is_refused(copy: Path) -> None:
    (copy / "generation_config.json").write_text("{")
    with pytest.raises(
        RequestError, match=r"generation_config.json:1 is not JSON .*; save it again, or delete it"
    ):
        target_ends(open_checkpoint(copy))


# The whole way, by a trace of texts that were cut off at 5 % a token.


def trace(
    folder: Path, change: Any = lambda line: None, **header: Any
) -> tuple[ExternalEngine, Case]:
    rows = [
        json.loads(line)
        for line in (ROOT / "tests/engines/payloads/short_texts.jsonl").read_text().splitlines()
    ]
    rows[0] |= header
    for line in rows[1:]:
        change(line)
    path, prompts = folder / "run.jsonl", folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts.write_text(
        "".join(json.dumps({"category": "all", "prompt": row["prompt"]}) + "\n" for row in rows[1:])
    )
    texts = TextKey("s", str(EMBEDDED / "text-target"), prompts, None, 64, 1.0, 0)
    case = Case(
        texts=texts,
        drafter=DraftModelSpec(str(EMBEDDED / "text-draft")),
        label="draft",
        k=3,
        depth=0,
        rule="rejection",
        margin=0.005,
        engine="trace",
    )
    return ExternalEngine("trace", ModelPool("cpu"), url=str(path), kept=folder), case


@pytest.mark.parametrize("judge", [None, oracle, conformance])
def test_short_texts_are_no_run(tmp_path: Path, judge: Callable[..., object] | None) -> None:
    """Sampled texts, as right as any to oracle and conformance, that end after at most 25 of 64
    tokens without EOS.
    """
    engine, case = trace(tmp_path)
    with pytest.raises(
        SpecdecError,
        match=r"run.jsonl:2, prompt \w+: the text ends after 25 of 64 tokens with token 611, which "
        r"is",
    ):
        engine.measure(case) if judge is None else judge(engine, case, 0.01)


def cut(line: dict) -> None:
    """The text's first 22 tokens, and the rounds that they take."""
    line["new_ids"], rounds, emitted = line["new_ids"][:22], [], 1
    while emitted < 22:
        rounds.append(line["rounds"][len(rounds)])
        emitted += rounds[-1][1] + 1
    line["rounds"] = rounds


def test_the_same_texts_are_a_run_where_so_many_tokens_were_asked_for(tmp_path: Path) -> None:
    engine, case = trace(tmp_path, cut, new_tokens=22)
    longer = dataclasses.replace(case, texts=dataclasses.replace(case.texts, new_tokens=22))
    assert engine.measure(longer).counts.total_rounds > 100


def reasoned(reason: str) -> Callable[[dict], None]:
    def change(line: dict) -> None:
        cut(line)
        line["finish_reason"] = reason

    return change


@pytest.mark.parametrize(
    ("reason", "fault"), [("length", None), ("stop", "the engine reports a stop; report 'length'")]
)
def test_the_reasons_of_a_trace_are_judged(tmp_path: Path, reason: str, fault: str | None) -> None:
    engine, case = trace(tmp_path, reasoned(reason), new_tokens=22)
    case = dataclasses.replace(case, texts=dataclasses.replace(case.texts, new_tokens=22))
    found, texts = ending_fault(engine, case)
    assert texts == 20
    assert found is None if fault is None else found is not None and fault in found


def test_a_declared_stop_inside_a_trace_is_no_run(tmp_path: Path) -> None:
    first = json.loads(
        (ROOT / "tests/engines/payloads/short_texts.jsonl").read_text().splitlines()[1]
    )
    stop = first["new_ids"][5]
    engine, case = trace(tmp_path, cut, new_tokens=22, stop=[stop])
    case = dataclasses.replace(case, texts=dataclasses.replace(case.texts, new_tokens=22))
    with pytest.raises(MeasurementError, match=f"continues after token {stop}, which ends a text"):
        ending_fault(engine, case)
