"""Which tokens and contexts carry a loss."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_specdec.gate.token_losses import TokenPositions

BEFORE = {"p": np.full(6, 0.8), "q": np.full(80, 0.5)}
TOKENS = {"p": [9, 1, 2, 1, 2, 1, 2], "q": [9, *[3] * 80]}
STARTS = {"p": 10, "q": 30}


def places(**now: np.ndarray) -> TokenPositions:
    return TokenPositions.of(BEFORE, {**BEFORE, **now}, TOKENS, STARTS)


def test_the_tokens_that_lost_most_come_first_with_their_means() -> None:
    now = np.array([0.1, 0.8, 0.1, 0.7, 0.1, 0.7])
    worst = places(p=now, q=np.full(80, 0.6)).worst_tokens()
    assert [(change.token, change.times) for change in worst] == [(1, 3), (2, 3)]
    assert worst[0].before == pytest.approx(0.8)
    assert worst[0].now == pytest.approx(0.1)
    assert worst[0].lost == pytest.approx(2.1)


def test_many_small_losses_weigh_more_than_one_large() -> None:
    worst = places(p=np.array([0.0, 0.8, 0.8, 0.8, 0.8, 0.8]), q=np.full(80, 0.45)).worst_tokens()
    assert [change.token for change in worst] == [3, 1]


def test_where_nothing_fell_nothing_is_named() -> None:
    assert places().worst_tokens() == []


def test_contexts_double_from_32_tokens_on() -> None:
    now = np.where(np.arange(80) < 34, 0.5, 0.25)
    changed = places(q=now).contexts_changed()
    assert [(first, last) for first, last, _ in changed] == [(10, 31), (32, 63), (64, 109)]
    assert [change for *_, change in changed] == pytest.approx([0.0, 0.0, -0.5])


def test_texts_of_other_lengths_are_left_out() -> None:
    positions = TokenPositions.of(BEFORE, {"p": np.ones(5), "q": np.ones(80)}, TOKENS, STARTS)
    assert set(positions.tokens.tolist()) == {3}
    assert TokenPositions.of({}, {"p": np.ones(6)}, TOKENS, STARTS).tokens.size == 0


def test_heads_are_reported_together() -> None:
    both = TokenPositions.together([places(), places()])
    assert both.tokens.size == 2 * places().tokens.size
