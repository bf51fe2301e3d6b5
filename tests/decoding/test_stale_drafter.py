"""A fixed drafter along targets in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.embedded import Pair

from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.stale_drafter import StaleDrafter

TEXTS = ("The function returns", "A list of all", "Returns True if", '{"name": ')
PROMPTS = [Prompt(key=text, category="all", text=text) for text in TEXTS]


def drafter(pair: Pair, **options) -> StaleDrafter:
    return StaleDrafter(pair.draft, PROMPTS, **{"k": 3, "new_tokens": 32} | options)


@contextmanager
def noisy(model: LoadedModel, share: float) -> Iterator[None]:
    weights = [weight for weight in model.model.parameters() if weight.dim() > 1]
    before = [weight.data.clone() for weight in weights]
    generator = torch.Generator().manual_seed(0)
    for weight in weights:
        weight.data += torch.randn(weight.shape, generator=generator) * weight.std() * share
    try:
        yield
    finally:
        for weight, old in zip(weights, before, strict=True):
            weight.data.copy_(old)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_target_again_loses_nothing(pair: Pair, temperature: float) -> None:
    stale = drafter(pair, temperature=temperature)
    first, again = (stale.measure(name, pair.target, fresh=True) for name in "ab")
    np.testing.assert_allclose(again.counts.accepted, first.counts.accepted, rtol=1e-6)
    assert again.contexts == "a"
    assert again.fresh is not None
    np.testing.assert_allclose(again.fresh.accepted, first.counts.accepted, rtol=1e-6)
    assert again.effective_share == (None if temperature == 0 else pytest.approx(1, abs=1e-6))


def test_a_changed_target_is_measured_in_the_first_ones_contexts(pair: Pair) -> None:
    stale = drafter(pair)
    first = stale.measure("0", pair.target)
    with noisy(pair.target, 0.02):
        second = stale.measure("1", pair.target)
    assert second.contexts == "0"
    np.testing.assert_array_equal(second.counts.rounds, first.counts.rounds)
    assert second.effective_share is not None
    assert 0.5 < second.effective_share < 1


def test_texts_that_say_nothing_any_more_are_replaced(pair: Pair) -> None:
    stale = drafter(pair, new_tokens=24)
    stale.measure("0", pair.target)
    with noisy(pair.target, 1.0):
        second = stale.measure("1", pair.target)
        third = stale.measure("2", pair.target)
    assert second.contexts == "1"
    assert third.contexts == "1"
    np.testing.assert_allclose(third.counts.accepted, second.counts.accepted, rtol=1e-5)


def test_another_vocabulary_is_refused(pair: Pair, tiny_target: Path) -> None:
    stale = drafter(pair)
    stale.measure("0", pair.target)
    with pytest.raises(RequestError, match="has other tokens than"):
        stale.measure("1", load_model(str(tiny_target), "cpu"))
