"""Changes along an axis beside scipy, and their error rate under no change."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.axes import LengthChange, paired_change, unpaired_change


def counts(accepted: np.ndarray, rounds: float = 10.0, first: int = 0) -> Counts:
    number = len(accepted)
    of_rounds = np.full(number, rounds)
    return Counts(
        prompts=tuple(str(first + at) for at in range(number)),
        categories=("all",) * number,
        rounds=of_rounds,
        drafted=of_rounds[:, None] * 4,
        accepted=accepted[:, None],
    )


def test_a_paired_change_is_students_test_where_rounds_are_equal() -> None:
    rng = np.random.default_rng(0)
    before, now = rng.normal(20, 3, 12), rng.normal(21, 3, 12)
    found = paired_change(counts(before), counts(now), comparisons=5)
    expected = stats.ttest_rel(now / 10, before / 10).confidence_interval(1 - 0.05 / 5)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.change == pytest.approx((now - before).mean() / 10)


def test_groups_of_other_prompts_are_no_surer_than_welch() -> None:
    rng = np.random.default_rng(1)
    before, now = rng.normal(20, 3, 9), rng.normal(24, 5, 30)
    found = unpaired_change(counts(before), counts(now, first=100), comparisons=1)
    welch = stats.ttest_ind(now / 10, before / 10, equal_var=False).confidence_interval(0.95)
    assert found.low <= welch.low
    assert found.high >= welch.high
    reach = math.hypot(stats.sem(before / 10), stats.sem(now / 10)) * stats.t.ppf(0.975, 8)
    assert found.high - found.change == pytest.approx(reach)


def test_an_interval_that_holds_all_that_is_possible_is_none() -> None:
    wide = LengthChange(before=2.0, now=2.5, low=-4.0, high=5.0, prompts=4)
    assert (wide.within(4).low, wide.within(4).high) == (-math.inf, math.inf)
    assert wide.within(5) == wide
    moved = LengthChange(before=1.0, now=3.0, low=0.5, high=9.0, prompts=4)
    assert moved.within(4) == moved
    assert moved.within(4).moves


def test_one_prompt_or_no_round_moves_nothing() -> None:
    one = counts(np.array([20.0]))
    assert not paired_change(one, counts(np.array([5.0])), 1).moves
    assert not unpaired_change(one, counts(np.arange(5.0), first=9), 1).moves
    without = counts(np.zeros(3), rounds=0.0)
    found = paired_change(without, counts(np.ones(3)), 1)
    assert math.isnan(found.before)
    assert not found.moves


@pytest.mark.parametrize("paired", [True, False])
def test_three_comparisons_together_seldom_move_where_nothing_does(paired: bool) -> None:
    rng, wrong, runs = np.random.default_rng(2), 0, 600
    change = paired_change if paired else unpaired_change
    for _ in range(runs):
        sides = rng.gamma(4, 5, (4, 10))
        moved = [
            change(counts(sides[0]), counts(side, first=0 if paired else 50), 3).moves
            for side in sides[1:]
        ]
        wrong += any(moved)
    assert wrong / runs < 0.08
