"""Masks of constrained decoding in a trace: rounds and texts are judged under them, and a mask that is one
row late, or missing, is found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.support import EMBEDDED

from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import Decoded
from pytest_specdec.decoding.processors import Processors
from pytest_specdec.decoding.recorded_masks import MaskedText, Ranges, RecordedMasks
from pytest_specdec.decoding.replay import replay
from pytest_specdec.engines.adapter_api import Reported, ReportedRound
from pytest_specdec.engines.adapters.trace import read_trace, write_trace
from pytest_specdec.engines.external import ExternalEngine
from pytest_specdec.engines.model_checks import conformance, oracle
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.decode_engine import _CONVENTION

pytestmark = pytest.mark.slow

PROMPTS = EMBEDDED.parent / "engines" / "prompts.jsonl"
NEW, K = 24, 3
MODELS = ModelPool("cpu")


def case(temperature: float) -> Case:
    return Case(
        texts=TextKey("s", str(EMBEDDED / "text-target"), PROMPTS, 6, NEW, temperature, seed=0),
        drafter=DraftModelSpec(str(EMBEDDED / "text-draft")),
        label="draft",
        k=K,
        depth=0,
        rule="rejection" if temperature else "greedy",
        margin=0.01,
        engine="trace",
    )


def mask_after(text: Sequence[int]) -> Ranges:
    """A grammar: letters and words of one half of the vocabulary, by the last token's parity."""
    odd = bool(text) and text[-1] % 2 == 1
    return ((100, 560),) if odd else ((20, 90), (500, 1023))


class Grammar:
    """The same as a logits processor."""

    def for_prompt(self, prompt: Sequence[int]) -> Any:
        def mask(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            kept = torch.full_like(scores, -torch.inf)
            for first, last in mask_after(input_ids[0, len(prompt) :].tolist()):
                kept[:, first : last + 1] = scores[:, first : last + 1]
            return kept

        return mask

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


def recorded(one: Case, on_drafts: bool = True) -> tuple[Decoded, list[Reported]]:
    """What an engine that applies the grammar would record."""
    from pytest_specdec.cases.prompts import read_prompts
    from pytest_specdec.decoding.sampling import encode_prompts

    prompts = read_prompts(PROMPTS, 6)
    ids = encode_prompts(MODELS.model(one.target).tokenizer, prompts)
    decoded = MODELS.decode(one, ids, processors=Processors((Grammar(),), on_drafts))
    reported = []
    for prompt, text, rounds in zip(prompts, decoded.texts, decoded.rounds, strict=True):
        new = text.ids[text.prompt_length :]
        reported.append(
            Reported(
                key=prompt.key,
                prompt_ids=text.ids[: text.prompt_length],
                new_ids=new,
                convention=_CONVENTION,
                rounds=tuple(ReportedRound(one.drafted, one.accepted) for one in rounds),
                masks=tuple(mask_after(new[:at]) for at in range(len(new))),
                masked_drafts=on_drafts,
            )
        )
    return decoded, reported


def traced(path: Path, one: Case, texts: Sequence[Reported]) -> ExternalEngine:
    engine = ExternalEngine("trace", MODELS, url=str(path))
    request = engine._request(one, _prompts())
    write_trace(path, request, "mine 1", texts)
    return engine


def _prompts() -> Any:
    from pytest_specdec.cases.prompts import read_prompts

    return read_prompts(PROMPTS, 6)


@pytest.mark.parametrize("on_drafts", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_right_engine_agrees_under_its_masks(
    tmp_path: Path, temperature: float, on_drafts: bool
) -> None:
    one = case(temperature)
    _, texts = recorded(one, on_drafts)
    engine = traced(tmp_path / "run.jsonl", one, texts)
    assert conformance(engine, one, 0.01).conforms
    found = oracle(engine, one, 0.001)
    assert found.agrees, found.message
    assert engine.measure(one).altered == "masked"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_masks_that_are_late_or_not_recorded_are_found(tmp_path: Path, temperature: float) -> None:
    one = case(temperature)
    _, texts = recorded(one)
    late = [
        dataclasses.replace(text, masks=(text.masks[0], *text.masks[:-1]))
        for text in texts
        if text.masks
    ]
    engine = traced(tmp_path / "late.jsonl", one, late)
    found = conformance(engine, one, 0.01)
    assert not found.conforms
    assert "forbid" in found.message
    without = [dataclasses.replace(text, masks=None) for text in texts]
    engine = traced(tmp_path / "without.jsonl", one, without)
    assert not conformance(engine, one, 0.01).conforms


def test_replay_under_recorded_masks_counts_decodes_rounds() -> None:
    one = case(0.0)
    decoded, texts = recorded(one)
    masks = RecordedMasks(
        tuple(
            MaskedText(prompt=text.prompt_ids, new_ids=text.new_ids, masks=text.masks or ())
            for text in texts
        )
    )
    target, draft = MODELS.model(one.target), MODELS.model(str(one.drafter))
    again = replay(target, draft, decoded.texts, k=K, temperature=0, processors=masks)
    for name in ("rounds", "drafted", "accepted"):
        np.testing.assert_array_equal(getattr(decoded.counts, name), getattr(again, name))


def test_masks_of_other_texts_are_refused(tmp_path: Path) -> None:
    one = case(0.0)
    _, texts = recorded(one)
    some = [texts[0], *(dataclasses.replace(text, masks=None) for text in texts[1:])]
    engine = traced(tmp_path / "some.jsonl", one, some)
    with pytest.raises(RequestError, match="a text has no recorded masks; record those of every"):
        conformance(engine, one, 0.01)
    text = MaskedText(prompt=(1,), new_ids=(2,), masks=(None,))
    with pytest.raises(RequestError, match="two texts of one prompt"):
        RecordedMasks((text, dataclasses.replace(text, new_ids=(3,))))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ((None,) * 3, "3 masks and 24 new_ids; record one"),
        (((),) + (None,) * 23, "mask 0 allows no token"),
        ((((9, 3),),) + (None,) * 23, "a range ends before it begins"),
    ],
)
def test_masks_that_cannot_be_are_refused(tmp_path: Path, masks: Any, message: str) -> None:
    one = case(0.0)
    _, texts = recorded(one)
    path = tmp_path / "run.jsonl"
    traced(path, one, [dataclasses.replace(texts[0], masks=masks), *texts[1:]])
    with pytest.raises(RequestError, match=message):
        read_trace(path)
