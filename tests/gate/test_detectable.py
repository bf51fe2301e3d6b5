"""The smallest detectable drop: what it is made of, and that it holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers.judged import judge_records
from helpers.records import record, sampled_counts, steady_counts
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.detectable import (
    prompts_to_detect,
    prompts_to_see,
    relative_error,
    smallest_bounded_drop,
    smallest_detectable_drop,
)
from pytest_specdec.gate.facts import ComparisonFacts
from pytest_specdec.gate.paired import Pair


def pair(prompts: int, seed: int = 1) -> Pair:
    rng = np.random.default_rng(seed)
    skill = rng.beta(6, 2, prompts)
    return Pair(sampled_counts(rng, skill), sampled_counts(rng, skill))


def detectable(of: Pair, margin: float = 0.005, level: float = 0.01) -> float:
    drop = smallest_detectable_drop(of, level=level, margin=margin)
    assert drop is not None
    return drop


@pytest.mark.parametrize("margin", [0.0, 0.01, 0.2, 0.3])
def test_it_is_above_the_margin_since_half_of_such_drops_are_observed_as_less(
    margin: float,
) -> None:
    of = pair(80)
    assert detectable(of, margin) > margin
    assert detectable(of, margin) >= detectable(of, 0.0)


def test_a_stricter_level_sees_less() -> None:
    of = pair(80)
    assert detectable(of, level=0.0001) > detectable(of, level=0.01)


def test_it_shrinks_with_the_root_of_the_prompts() -> None:
    of = pair(50)
    four = Pair(*(_copies(side, 4) for side in (of.before, of.now)))
    assert relative_error(four) == pytest.approx(relative_error(of) / 2, rel=0.02)
    assert detectable(four) == pytest.approx(detectable(of) / 2, rel=0.1)


def _copies(of: Counts, times: int) -> Counts:
    names = tuple(f"{copy}-{name}" for copy in range(times) for name in of.prompts)
    parts = (np.concatenate([part] * times) for part in (of.rounds, of.drafted, of.accepted))
    return Counts(names, of.categories * times, *parts)


@pytest.mark.parametrize(
    "of", [Pair(steady_counts(1), steady_counts(1)), Pair(steady_counts(9), steady_counts(9))]
)
def test_without_a_spread_nothing_is_promised(of: Pair) -> None:
    assert smallest_detectable_drop(of, level=0.01, margin=0.005) is None
    assert prompts_to_see(of, 0.01, level=0.01) is None


def test_more_than_there_is_to_lose_is_not_promised() -> None:
    assert smallest_detectable_drop(pair(8), level=1e-6, margin=0.005) is None
    assert prompts_to_see(pair(8), 0.0, level=0.01) is None


def test_so_many_prompts_see_it() -> None:
    of = pair(60)
    assert prompts_to_see(of, detectable(of, margin=0.0), level=0.01) == pytest.approx(60, abs=1)
    assert prompts_to_see(of, detectable(of, margin=0.0) / 2, level=0.01) == pytest.approx(
        240, abs=2
    )


def test_at_the_printed_drop_four_in_five_fail() -> None:
    """The share of 120 comparisons, each with the very drop that it printed when nothing had
    changed.
    """
    rng, failed, tries = np.random.default_rng(3), 0, 120
    for _ in range(tries):
        skill = rng.beta(6, 2, 40)
        before = sampled_counts(rng, skill)
        unchanged = judge_records(
            record(sampled_counts(rng, skill), text="text-2"), record(before), margin=0.005
        )
        drop = unchanged.smallest_detectable_drop
        assert drop is not None
        now = sampled_counts(rng, skill * _loss(skill, drop))
        failed += (
            judge_records(record(now, text="text-2"), record(before), margin=0.005).outcome
            == "regressed"
        )
    assert failed >= stats.binom.ppf(0.001, tries, 0.8)


def _loss(skill: np.ndarray, drop: float) -> float:
    """The factor on the skills that lowers the mean length of two positions, 1 + s + s^2, by the
    share `drop`.
    """
    whole = np.mean(1 + skill + skill**2)
    wanted = (1 - drop) * whole
    a, b, c = np.mean(skill**2), np.mean(skill), 1 - wanted
    return float((-b + math.sqrt(b * b - 4 * a * c)) / (2 * a))


def test_the_number_of_prompts_that_would_detect_a_drop_is_enough() -> None:
    """The same prompts many times over spread as so many prompts like them."""
    few = pair(20)
    wanted = 0.03

    def facts(times: int) -> ComparisonFacts:
        rows = list(range(few.prompts)) * times
        return ComparisonFacts.of(
            "acceptance_length", Pair(few.before.select(rows), few.now.select(rows)), ()
        )

    prompts = prompts_to_detect(facts(1), wanted, 0.01)
    assert prompts is not None
    times = math.ceil(prompts / few.prompts)
    enough = smallest_bounded_drop(facts(times), wanted / 2, 0.01)
    too_few = smallest_bounded_drop(facts(1), wanted / 2, 0.01)
    assert enough is not None
    assert too_few is not None
    assert enough <= wanted < too_few
    assert prompts_to_detect(facts(1), 0.0, 0.01) is None
