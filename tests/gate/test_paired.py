"""The paired drop: influence of each prompt, and an interval that covers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.records import PROPERTY, counts, scaled, steady_counts
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.paired import Pair


@st.composite
def any_pair(draw: st.DrawFn) -> Pair:
    prompts = draw(st.integers(1, 6))
    sides = []
    for _ in range(2):
        rounds = draw(st.lists(st.integers(1, 40), min_size=prompts, max_size=prompts))
        sides.append(counts(rounds, [[draw(st.integers(0, most))] for most in rounds]))
    return Pair(*sides)


def test_prompts_are_lined_up_by_key_and_lone_ones_left_out() -> None:
    before = counts([1, 2, 3], [[1], [2], [3]], prompts=["a", "b", "c"])
    now = counts([30, 20, 40], [[3], [2], [4]], prompts=["c", "b", "d"])
    pair = Pair.of(before, now)
    assert pair.before.prompts == pair.now.prompts == ("b", "c")
    assert pair.before.rounds.tolist() == [2, 3]
    assert pair.now.rounds.tolist() == [20, 30]


def test_the_drop_is_of_pooled_lengths() -> None:
    pair = Pair(counts([10, 30], [[8], [12]]), counts([10, 30], [[4], [12]]))
    assert pair.length_drop == pytest.approx(20 / 40 - 16 / 40)


@given(any_pair())
@PROPERTY
def test_influences_sum_to_the_drop(pair: Pair) -> None:
    assert pair.influence().sum() == pytest.approx(pair.length_drop, abs=1e-12)


@given(any_pair())
@PROPERTY
def test_swapping_sides_turns_the_drop_and_its_influences_round(pair: Pair) -> None:
    turned = Pair(pair.now, pair.before)
    assert turned.length_drop == pytest.approx(-pair.length_drop)
    assert_allclose(turned.influence(), -pair.influence(), atol=1e-12)


def test_the_prompt_that_lost_has_the_influence() -> None:
    now = steady_counts()
    now.accepted[5] *= 0.5
    influence = Pair(steady_counts(), now).influence()
    assert influence.argmax() == 5
    assert influence[5] > 10 * np.delete(influence, 5).max()


def test_identical_records_leave_no_doubt() -> None:
    pair = Pair(steady_counts(), steady_counts())
    assert pair.interval() == (0.0, 0.0)


def test_an_equal_loss_everywhere_has_a_narrow_interval() -> None:
    before = steady_counts()
    low, high = Pair(before, scaled(before, 0.9)).interval()
    assert low == pytest.approx(high)
    assert low == pytest.approx(0.1 * before.expected_accepted)


def test_one_prompt_says_nothing_about_others() -> None:
    pair = Pair(counts([10], [[8]]), counts([10], [[6]]))
    assert pair.standard_error() == math.inf
    assert pair.interval() == (-math.inf, math.inf)


def test_a_proportional_loss_is_known_exactly_however_prompts_differ() -> None:
    """In tokens it depends on the prompts; relatively it does not."""
    before = counts([10, 10, 10], [[2], [5], [9]])
    pair = Pair(before, scaled(before, 0.9))
    of_rate = 1 / before.expected_accepted
    assert pair.relative_error(of_rate) == pytest.approx(0.0, abs=1e-12)
    assert pair.relative_interval(of_rate) == pytest.approx((0.1, 0.1))
    low, high = pair.interval()
    assert high - low > 0.05


def test_the_relative_error_is_that_of_prompts_left_out_in_turn() -> None:
    """The jackknife knows nothing of influence functions."""
    before, now = clustered(np.random.default_rng(3), 400, 0.3)
    pair = Pair(before, now)
    rows = list(range(pair.prompts))
    drops = []
    for left_out in rows:
        kept = [row for row in rows if row != left_out]
        part = Pair(before.select(kept), now.select(kept))
        drops.append(part.length_drop / part.before.acceptance_length)
    jackknife = np.std(drops) * np.sqrt(pair.prompts - 1)
    assert pair.relative_error(1 / before.acceptance_length) == pytest.approx(jackknife, rel=0.01)


def test_a_relative_error_of_one_prompt_is_infinite() -> None:
    pair = Pair(counts([10], [[8]]), counts([10], [[6]]))
    assert pair.relative_error(1.0) == math.inf
    assert pair.relative_interval(1.0) == (-math.inf, math.inf)


def clustered(rng: np.random.Generator, prompts: int, loss: float) -> tuple[Counts, Counts]:
    """Before and now of prompts whose acceptance and number of rounds vary together; `now` accepts
    less by `loss`.
    """
    skill = rng.beta(4, 2, prompts)
    sides = []
    for factor in (1.0, 1.0 - loss):
        chance = np.clip(skill * factor + rng.normal(0, 0.05, prompts), 0, 1)
        rounds = rng.poisson(60 / (1 + 2 * chance)) + 5.0
        sides.append(
            counts(rounds.tolist(), rng.binomial(rounds.astype(int), chance)[:, None].tolist())
        )
    return sides[0], sides[1]


@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_the_interval_covers_the_true_drop_as_often_as_it_says(loss: float) -> None:
    rng = np.random.default_rng(20)
    truth = Pair(*clustered(rng, 400_000, loss)).length_drop
    inside = 0
    for _ in range(500):
        low, high = Pair(*clustered(rng, 30, loss)).interval()
        inside += low <= truth <= high
    assert 0.92 <= inside / 500 <= 0.98


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.4])
def test_the_relative_interval_covers_as_often_as_it_says(loss: float) -> None:
    rng = np.random.default_rng(21)
    truth, inside = relative(Pair(*clustered(rng, 400_000, loss)))[0], 0
    for _ in range(1000):
        _, low, high = relative(Pair(*clustered(rng, 30, loss)))
        inside += low <= truth <= high
    assert 0.93 <= inside / 1000 <= 0.97


def relative(pair: Pair) -> tuple[float, float, float]:
    scale = 1 / pair.before.expected_accepted
    return pair.length_drop * scale, *pair.relative_interval(scale)
