"""Conformance under logits processors: right texts conform at the promised rate, and what engines
get wrong is found in texts of this project's decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.embedded import Pair
from helpers.tiers import crossed

from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.processors import BatchProcessors
from pytest_specdec.lossless.texts.conformance import conformance

PENALTIES = {"repetition_penalty": 2.0, "presence_penalty": 1.5, "frequency_penalty": 1.5}
NO_TOKEN_TWICE = {"no_repeat_ngram": 1}
NEW, K = 24, 3
Target = Callable[..., tuple[torch.Tensor, torch.Tensor]]
_RIGHT = BatchProcessors.target


def ignored(self: BatchProcessors, ids: Any, firsts: Any, logits: Any, new: Any = None) -> Any:
    """The processors are dropped."""
    return logits, torch.zeros(logits.shape[:2], dtype=torch.bool)


def bonus_ignored(
    self: BatchProcessors, ids: Any, firsts: Any, logits: Any, new: Any = None
) -> Any:
    """The last row of a verification is not processed."""
    processed, dead = _RIGHT(self, ids, firsts, logits, new)
    if logits.shape[1] > 1:
        processed[:, -1] = logits[:, -1]
    return processed, dead


def one_row_late(self: BatchProcessors, ids: Any, firsts: Any, logits: Any, new: Any = None) -> Any:
    """Each row is processed as the one before it."""
    return _shifted(self, ids, firsts, logits, lambda column: max(column - 1, 0))


def round_start(self: BatchProcessors, ids: Any, firsts: Any, logits: Any, new: Any = None) -> Any:
    """Every row has the history of the round's start."""
    return _shifted(self, ids, firsts, logits, lambda column: 0)


def _shifted(
    self: BatchProcessors, ids: Any, firsts: Any, logits: Any, of: Callable[[int], int]
) -> Any:
    processed = logits.clone()
    for row, (processors, first) in enumerate(zip(self.rows, firsts, strict=True)):
        for column in range(logits.shape[1]):
            processed[row, column] = processors(ids[row, : first + of(column)], logits[row, column])
    return processed, torch.zeros(logits.shape[:2], dtype=torch.bool)


DEFECTS: dict[str, Target] = {
    "ignored": ignored,
    "bonus row": bonus_ignored,
    "one row late": one_row_late,
    "history of the round's start": round_start,
}


@crossed(
    name=DEFECTS,
    how=[("penalties", 0.0), ("n-grams", 1.0), ("penalties", 1.0), ("n-grams", 0.0)],
    ids=str,
)
def test_defects_of_a_decoder_are_found(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, name: str, how: tuple[str, float]
) -> None:
    settings: dict[str, Any] = {"penalties": PENALTIES, "n-grams": NO_TOKEN_TWICE}[how[0]]
    temperature = how[1]
    options = {"temperature": temperature, "processors": settings}
    prompts = pair.prompts[:24]
    with monkeypatch.context() as patch:
        patch.setattr(BatchProcessors, "target", DEFECTS[name])
        texts = decode(pair.target, pair.draft, prompts, k=K, new_tokens=NEW, **options).texts
    found = conformance(pair.target, texts, drafter=pair.draft, alpha=1e-3, **options)
    assert not found.conforms
    if settings is NO_TOKEN_TWICE:
        assert "which the logits processors forbid after the text before it" in found.message
    elif temperature:
        assert "logits processors that" in found.message


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_right_texts_conform(pair: Pair, temperature: float) -> None:
    options = {
        "temperature": temperature,
        "processors": PENALTIES | NO_TOKEN_TWICE | {"min_p": 0.02},
    }
    texts = decode(pair.target, pair.draft, pair.prompts[:16], k=K, new_tokens=NEW, **options).texts
    found = conformance(pair.target, texts, drafter=pair.draft, alpha=1e-3, **options)
    assert found.conforms, found.message
    if temperature == 0:
        assert not conformance(pair.target, texts, temperature=temperature).conforms


def test_false_alarms_stay_within_alpha(pair: Pair) -> None:
    """60 runs of two texts at alpha = 10 %: 13 or more alarms have probability below 1 %."""
    options = {"temperature": 1.0, "processors": PENALTIES}
    prompts = [pair.prompts[at] for at in (0, 3)] * 60
    texts = decode(
        pair.target, pair.draft, prompts, k=K, new_tokens=12, batch_size=60, **options
    ).texts
    alarms = sum(
        not conformance(
            pair.target, texts[at : at + 2], alpha=0.1, drafter=pair.draft, **options
        ).conforms
        for at in range(0, len(texts), 2)
    )
    assert alarms < 13
