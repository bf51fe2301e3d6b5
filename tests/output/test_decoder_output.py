"""Public defects of endings and batches, built into this project's decoder: found on the page, while the
decoder without them passes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.support import EMBEDDED
from helpers.tiers import exhaustive

from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.decoding import batch
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import DecodeEngine
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.protocol import Engine
from pytest_specdec.output import checks
from pytest_specdec.output.checks import CHECKS, examined
from pytest_specdec.output.results import CheckOutcome, OutputReport
from pytest_specdec.output.subject import OutputSubject

EOS = 15
"""The full stop, which ends the texts of this target."""
PROMPTS = EMBEDDED.parent / "engines" / "prompts.jsonl"
SIZES = (1, 4, 16)


def case(temperature: float = 0.0) -> Case:
    return Case(
        texts=TextKey("s", str(EMBEDDED / "text-target-eos"), PROMPTS, 20, 48, temperature, seed=0),
        drafter=DraftModelSpec(str(EMBEDDED / "text-draft")),
        label="draft",
        k=4,
        depth=0,
        rule="rejection" if temperature else "greedy",
        margin=0.01,
        engine="decode",
    )


MODELS = ModelPool("cpu")


def report(one: Case, *names: str, engine: Engine | None = None) -> OutputReport:
    """The page of the checks that are named, all without names."""
    subject = OutputSubject(
        name="decode",
        prompts=read_prompts(PROMPTS, 20),
        new_tokens=48,
        engine=engine or DecodeEngine(MODELS),
        cases=(one,),
        concurrency=SIZES,
    )
    with pytest.MonkeyPatch.context() as patch:
        made = {name: check for name, check in CHECKS.items() if name in (names or CHECKS)}
        patch.setattr(checks, "CHECKS", made)
        return examined(subject)


def outcome(found: OutputReport, name: str) -> CheckOutcome:
    return next(result.outcome for result in found.results if result.name == name)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_our_decoder_passes(temperature: float) -> None:
    found = report(case(temperature))
    assert found.right, found.message
    made = {result.name for result in found.results if result.outcome is CheckOutcome.OK}
    assert made == {"endings", "texts", "batches", "counters", "oracle"}
    (batches,) = [result for result in found.results if result.name == "batches"]
    assert "20 greedy texts are the same at every batch size" in batches.words
    assert " at 1, " in batches.words


@pytest.mark.parametrize("temperature", [0.0, exhaustive(1.0)])
def test_what_transformers_returns_passes(temperature: float) -> None:
    """It decodes one text at a time when it drafts."""
    one = dataclasses.replace(case(temperature), engine="transformers")
    found = report(one, engine=ExternalEngine("transformers", MODELS))
    assert found.right, found.message
    made = {result.name for result in found.results if result.outcome is CheckOutcome.OK}
    assert made == {"endings", "texts", "counters", "oracle"}
    (batches,) = [result for result in found.results if result.name == "batches"]
    assert "engine 'transformers' decodes one text at a time" in batches.words


def leaks_after_eos(patch: pytest.MonkeyPatch) -> None:
    """What a round emits after EOS is returned, too (sgl-project/sglang#31599)."""

    def emit(self: batch.BatchRow, tokens: list[int], stop: frozenset[int]) -> None:
        self.tokens += list(tokens)[: self.limit - len(self.tokens)]
        self.ended = len(self.tokens) >= self.limit or bool(stop & set(tokens))

    patch.setattr(batch.BatchRow, "emit", emit)


def ends_by_a_draft(patch: pytest.MonkeyPatch) -> None:
    """An EOS among the drafts ends the request, accepted or not (vllm-project/vllm#41493)."""
    verify: Callable[[batch.Batch], None] = batch.Batch.verify

    def broken(self: batch.Batch) -> None:
        assert self._proposal is not None
        drafted = zip(self._rows, self._proposal.tokens.tolist(), strict=True)
        ending = [row for row, tokens in drafted if EOS in tokens]
        verify(self)
        for row in ending:
            row.ended = True
        self._drop_ended()

    patch.setattr(batch.Batch, "verify", broken)


def ignores_accepted_eos(patch: pytest.MonkeyPatch) -> None:
    """An EOS that was accepted in the middle of a round ends nothing
    (huggingface/transformers#47912).
    """
    emit = batch.BatchRow.emit

    def broken(self: batch.BatchRow, tokens: Any, stop: frozenset[int]) -> None:
        emit(self, tokens, stop if tokens[-1] in stop else frozenset())

    patch.setattr(batch.BatchRow, "emit", broken)


ENDINGS = {
    leaks_after_eos: "continues after token 15, which ends a text",
    ends_by_a_draft: "which is neither EOS nor a declared stop (15)",
    ignores_accepted_eos: "continues after token 15, which ends a text",
}


@pytest.mark.parametrize("defect", ENDINGS)
def test_texts_that_end_wrongly_are_found(
    defect: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    defect(monkeypatch)
    found = report(case(), "endings", "counters")
    assert (outcome(found, "endings"), found.status) == (CheckOutcome.FAILED, 1)
    assert ENDINGS[defect] in found.message


def test_a_text_that_differs_in_batches_of_four_alone_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of four rows reads the logits of the first."""
    likeliest = batch.likeliest

    def broken(logits: torch.Tensor) -> torch.Tensor:
        best = likeliest(logits)
        if logits.shape[0] == 4 and logits.shape[1] > 2:
            best[3] = best[0]
        return best

    monkeypatch.setattr(batch, "likeliest", broken)
    found = report(case(), "batches")
    assert outcome(found, "batches") is CheckOutcome.FAILED
    assert "has another greedy text at batch size 4, and it is not the target's" in found.message
    assert "alone: " in found.message
    assert "⟦" in found.message


def test_texts_that_are_replayed_end_for_no_engine() -> None:
    """Replay emits no text, so endings and batches are not its own."""
    subject = OutputSubject(
        name="replay",
        prompts=read_prompts(PROMPTS, 20),
        new_tokens=48,
        engine=ReplayEngine((case(),), MODELS, stored_texts=lambda key: None),
        cases=(case(),),
    )
    found = examined(subject, frozenset({"endings"}))
    assert outcome(found, "endings") is CheckOutcome.UNCHECKED
    assert found.status == 3
    assert found.message.startswith("endings: engine 'replay' replays texts and emits none")
