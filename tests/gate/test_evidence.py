"""The e-process: bets of expectation one, and a bound that holds however often one looks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from pytest_specdec.gate.evidence import accumulate, bet

p_values = st.floats(1e-12, 1.0)


def test_a_bet_has_expectation_one() -> None:
    """Over u = -ln p; what lies beyond 600 is 1 / 600."""
    whole, _ = integrate.quad(lambda u: bet(math.exp(-u)) * math.exp(-u), 0, 600, limit=500)
    assert whole + 1 / 600 == pytest.approx(1, abs=1e-4)


@given(p_values, p_values)
@PROPERTY
def test_smaller_p_values_pay_more(first: float, second: float) -> None:
    assert (bet(first) >= bet(second)) == (first <= second) or bet(first) == pytest.approx(
        bet(second)
    )


@pytest.mark.parametrize("p", [1 - 1e-5, 1 - 9.99e-5, 1 - 1.01e-4, 1 - 1e-3])
def test_the_limit_at_one_is_met_without_a_step(p: float) -> None:
    mixture, _ = integrate.quad(lambda k: k * p ** (k - 1), 0, 1)
    assert bet(p) == pytest.approx(mixture, rel=1e-6)


def test_no_p_value_breaks_it() -> None:
    assert math.isfinite(bet(0.0))
    assert bet(1.0) == 0.5


def by_definition(values: list[float]) -> float:
    """The mixture over the run of the change, with all that starts later still at one."""
    runs = len(values)
    since = [
        math.prod(map(bet, values[start - 1 :])) / (start * (start + 1))
        for start in range(1, runs + 1)
    ]
    return sum(since) + 1 / (runs + 1)


@given(st.lists(st.floats(1e-6, 1.0), max_size=12))
@PROPERTY
def test_the_process_is_the_mixture_over_the_night_of_the_change(values: list[float]) -> None:
    path = [accumulate(values[:run]) for run in range(len(values) + 1)]
    assert path[-1].value == pytest.approx(by_definition(values))
    assert path[-1].highest == pytest.approx(max(step.value for step in path))
    assert [step.highest for step in path] == sorted(step.highest for step in path)


@pytest.mark.parametrize("past", [[], [0.3], [0.01, 0.9, 0.2]])
def test_another_night_without_a_change_is_a_fair_bet(past: list[float]) -> None:
    """The value is linear in the next bet, and a bet's mean is one."""
    low, high = (accumulate([*past, p]).value for p in (0.5, 0.01))
    slope = (high - low) / (bet(0.01) - bet(0.5))
    assert low + slope * (1 - bet(0.5)) == pytest.approx(accumulate(past).value)


def test_unchanged_histories_seldom_ever_reach_the_bound() -> None:
    """Ville: of histories of 20 runs at most one in twenty ever reaches 20."""
    rng, histories = np.random.default_rng(1), 2000
    reached = sum(accumulate(rng.random(20).tolist()).highest >= 20 for _ in range(histories))
    assert reached <= stats.binom.ppf(0.999, histories, 0.05)
    assert reached > 0, "the bound would be too far away to be of use"


def test_a_change_after_quiet_runs_is_found_and_dated() -> None:
    rng = np.random.default_rng(2)
    evidence = accumulate([*rng.uniform(0.1, 1, 30).tolist(), 1e-3, 2e-4, 1e-3, 5e-4])
    assert evidence.value > 1600
    assert evidence.since == 31


def test_what_was_reached_stays_reached() -> None:
    evidence = accumulate([1e-4, 1e-4, *[0.8] * 12])
    assert evidence.highest > 1600 > evidence.value
    assert accumulate([]).value == 1
