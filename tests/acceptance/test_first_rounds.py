"""First rounds as samples: spread, worst, and runs put together."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.acceptance.first_rounds import Samples, Spread

SAMPLES = Samples(
    ("a", "b", "c"), np.array([[0.9, 0.5], [0.2, 0.1], [1.0, 1.0]]), np.array([2.0, 2.0, 2.0])
)


def test_expected_accepted_and_rate_of_each_round() -> None:
    np.testing.assert_allclose(SAMPLES.accepted, [1.4, 0.3, 2.0])
    np.testing.assert_allclose(SAMPLES.rate, [0.7, 0.15, 1.0])


def test_the_spread_is_that_of_a_sample() -> None:
    values = [1.4, 0.3, 2.0]
    spread = Spread.of(np.array(values))
    assert math.isclose(spread.mean, statistics.mean(values))
    assert math.isclose(spread.deviation, statistics.stdev(values))
    assert (spread.least, spread.most) == (0.3, 2.0)


def test_one_sample_has_no_deviation_and_none_has_nothing() -> None:
    assert math.isnan(Spread.of(np.array([1.0])).deviation)
    assert all(math.isnan(value) for value in vars(Spread.of(np.array([]))).values())


def test_the_worst_come_first() -> None:
    assert [prompt for prompt, _ in SAMPLES.worst(2)] == ["b", "a"]
    assert len(SAMPLES.worst(9)) == 3


def test_runs_add_up() -> None:
    both = Samples.together([SAMPLES, SAMPLES])
    assert both.prompts == ("a", "b", "c") * 2
    assert both.survival.shape == (6, 2)


def test_a_round_that_drafts_nothing_has_rate_zero() -> None:
    idle = Samples(("a",), np.array([[0.0, 0.0]]), np.array([0.0]))
    assert idle.rate.tolist() == [0.0]


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1, max_size=6))
@PROPERTY
def test_rate_times_k_is_expected_accepted_for_samples_and_for_their_means(
    chances: list[list[float]],
) -> None:
    survival = np.cumprod(np.array(chances), axis=1)
    samples = Samples(
        tuple(f"p{row}" for row in range(len(chances))), survival, np.full(len(chances), 4.0)
    )
    np.testing.assert_allclose(samples.rate * 4, samples.accepted, atol=1e-300)
    rate, accepted = Spread.of(samples.rate), Spread.of(samples.accepted)
    np.testing.assert_allclose(
        np.array(dataclasses.astuple(rate)) * 4, dataclasses.astuple(accepted), atol=1e-12
    )
    assert -1e-12 <= rate.least - 1e-12 <= rate.mean <= rate.most + 1e-12 <= 1 + 1e-11


def test_of_equal_samples_the_first_is_the_worst() -> None:
    assert Samples(("a", "b"), np.array([[0.5], [0.5]]), np.ones(2)).worst(1) == [("a", 0.5)]
