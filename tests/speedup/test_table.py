"""Speed-up tables and break-even acceptance. The published figures are in suites/published."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.common.errors import CostError
from pytest_specdec.speedup.cost_profile import CostProfile
from pytest_specdec.speedup.formulas import best_k, theoretical_speedup
from pytest_specdec.speedup.table import break_even, speedup_interval, speedup_table

COSTS = CostProfile(
    target_ms=10, verify={1: 11, 2: 12, 4: 14}, draft={0: {1: 1, 2: 2, 4: 4}, 1: {1: 1, 4: 2}}
)
lengths = st.fixed_dictionaries({k: st.floats(1, 1 + k) for k in (1, 2, 3, 4)})


@given(lengths)
@PROPERTY
def test_a_table_agrees_with_the_model_and_with_best_k(lengths: dict[int, float]) -> None:
    table = speedup_table(lengths, COSTS)
    assert [step.k for step in table] == [1, 2, 3, 4]
    for step in table:
        times = {
            "target_ms": 10,
            "verify_ms": COSTS.verify_ms(step.k),
            "draft_ms": COSTS.draft_ms(step.k),
        }
        assert step.speedup == theoretical_speedup(step.length, **times)
    (best,) = [step for step in table if step.best]
    assert best.speedup == max(step.speedup for step in table)
    assert lengths[best.k] / best.round_ms == pytest.approx(
        lengths[best_k(lengths, COSTS)] / COSTS.round_ms(best_k(lengths, COSTS))
    )


@given(lengths)
@PROPERTY
def test_marginals_multiply_to_the_speedup(lengths: dict[int, float]) -> None:
    product = 1.0
    for step in speedup_table(lengths, COSTS):
        product *= step.marginal
        assert product == pytest.approx(step.speedup)
        assert step.pays == (step.marginal > 1)


@given(st.floats(1, 9), st.floats(0.01, 1), st.floats(1, 100), st.floats(1, 3))
@PROPERTY
def test_at_break_even_one_more_step_changes_nothing(
    length: float, survival: float, round_ms: float, growth: float
) -> None:
    needed = break_even(length, survival, round_ms=round_ms, next_round_ms=growth * round_ms)
    longer = length + survival * needed
    assert longer / (growth * round_ms) == pytest.approx(length / round_ms)


def test_a_step_that_costs_nothing_always_pays() -> None:
    assert break_even(2.0, 0.5, round_ms=10, next_round_ms=10) == 0
    assert break_even(2.0, 0.5, round_ms=10, next_round_ms=9) == 0


def test_a_step_that_is_hardly_reached_can_never_pay() -> None:
    assert break_even(3.0, 0.01, round_ms=10, next_round_ms=12) > 1


@pytest.mark.parametrize("bad", [{"survival": 0.0}, {"round_ms": 0.0}, {"next_round_ms": -1.0}])
def test_impossible_values_are_refused(bad: dict[str, float]) -> None:
    values = {"survival": 0.5, "round_ms": 10.0, "next_round_ms": 11.0, **bad}
    with pytest.raises(ValueError, match="must be positive"):
        break_even(2.0, values.pop("survival"), **values)


def test_tables_need_lengths_a_target_time_and_a_profile_that_covers_them() -> None:
    with pytest.raises(ValueError, match="a table needs acceptance lengths"):
        speedup_table({}, COSTS)
    with pytest.raises(ValueError, match="target_ms"):
        speedup_table({1: 1.5}, CostProfile(verify={1: 1}, draft={0: {1: 1}}))
    with pytest.raises(CostError, match="not 8"):
        speedup_table({8: 3.0}, COSTS)


def test_depth_chooses_the_drafting_times() -> None:
    plain, deep = (speedup_table({4: 3.0}, COSTS, depth=depth)[0] for depth in (0, 1))
    assert (plain.round_ms, deep.round_ms) == (18, 16)


def test_intervals_come_from_acceptance_and_from_timing() -> None:
    lengths, errors = {1: 1.8, 2: 2.4}, {1: 0.09, 2: 0.12}
    (first, second) = speedup_table(lengths, COSTS, errors=errors)
    for step in (first, second):
        assert step.interval is not None
        low, high = step.interval
        assert math.sqrt(low * high) == pytest.approx(step.speedup)
        assert math.log(high / low) / 2 == pytest.approx(1.96 * 0.05, rel=1e-3)
    noisy = dataclasses.replace(COSTS, spread=0.3, samples=9)
    (wider, _) = speedup_table(lengths, noisy, errors=errors)
    assert wider.interval is not None
    assert wider.interval[0] < first.interval[0]  # type: ignore[index]
    assert speedup_table(lengths, COSTS)[0].interval is None


@given(st.floats(1, 17), st.floats(0, 100), st.floats(0, 1e6))
@PROPERTY
def test_intervals_of_a_ratio_are_positive(
    length: float, error: float, timing_error: float
) -> None:
    low, high = speedup_interval(0.613, length, error, timing_error)
    assert 0 < low <= 0.613 <= high < math.inf


def test_intervals_cover_the_true_speedup_at_their_rate() -> None:
    """Length and times measured with the errors that they state, large ones: the truth lies outside
    1 time in 20.
    """
    rng, runs = np.random.default_rng(0), 4000
    length, timing_error, truth = 3.0, 0.2, 3.0 * 10 / 16
    inside = 0
    for measured, target, round_ms in zip(
        rng.normal(length, 0.3, runs),
        10 * np.exp(rng.normal(0, timing_error, runs)),
        16 * np.exp(rng.normal(0, timing_error, runs)),
        strict=True,
    ):
        low, high = speedup_interval(measured * target / round_ms, measured, 0.3, timing_error)
        inside += low <= truth <= high
    assert inside / runs == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / runs))


def test_extrapolated_times_are_marked() -> None:
    steps = speedup_table({2: 2.4, 8: 4.0}, COSTS.extended([8]))
    assert [(step.k, step.extrapolated) for step in steps] == [(2, False), (8, True)]
