"""When a drafter is stale: intervals that hold together, false alarms, and the break-even."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.gate.staleness import (
    RetrainingCosts,
    TargetMeasured,
    break_even_of,
    staleness_curve,
)

PROMPTS, ROUNDS = 40, 60.0


def counts(accepted: np.ndarray) -> Counts:
    """From accepted tokens per round of each prompt, k = 1."""
    names = tuple(f"p{row}" for row in range(len(accepted)))
    rounds = np.full(len(accepted), ROUNDS)
    return Counts(
        names, ("all",) * len(names), rounds, rounds[:, None], (rounds * accepted)[:, None]
    )


def target(number: int, accepted: np.ndarray, **fields) -> TargetMeasured:
    return TargetMeasured(
        name=str(number),
        counts=counts(accepted),
        contexts="0",
        effective_share=1.0,
        **{"unseen": 0.0} | fields,
    )


def sequence(
    rng: np.random.Generator, losses: list[float], noise: float = 0.05
) -> list[TargetMeasured]:
    """Targets with true relative losses of the length 1.8, correlated from step to step."""
    base = 0.8 + 0.05 * rng.standard_normal(PROMPTS)
    walk = np.cumsum(noise * rng.standard_normal((len(losses), PROMPTS)), axis=0) / math.sqrt(
        len(losses)
    )
    return [target(0, base)] + [
        target(number, base + apart - 1.8 * loss)
        for number, (loss, apart) in enumerate(zip(losses, walk, strict=True), 1)
    ]


def test_equal_targets_have_no_loss_and_no_interval() -> None:
    base = np.linspace(0.5, 0.9, PROMPTS)
    curve = staleness_curve([target(number, base) for number in range(4)], margin=0.0)
    assert [point.loss for point in curve.points] == [0, 0, 0, 0]
    assert all(point.interval == (0, 0) for point in curve.points)
    assert curve.passed is None


def test_all_intervals_hold_together_and_alarms_are_rare() -> None:
    rng = np.random.default_rng(0)
    losses = [0.02] * 20  # just the margin
    together, alarms, runs = 0, 0, 600
    for _ in range(runs):
        curve = staleness_curve(sequence(rng, losses), margin=0.02, alpha=0.05)
        together += all(
            point.interval[0] <= 0.02 <= point.interval[1] for point in curve.points[1:]
        )
        alarms += curve.passed is not None
    assert together / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
    assert alarms / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_a_drafter_that_goes_stale_is_found_after_it_passed_the_margin() -> None:
    rng = np.random.default_rng(1)
    losses = [0.005 * number for number in range(1, 21)]
    found = [
        staleness_curve(sequence(rng, losses), margin=0.04, alpha=0.01).passed for _ in range(50)
    ]
    assert all(at is not None and 8 < at <= 14 for at in found)


def test_hidden_acceptance_lowers_the_bound_only() -> None:
    base = np.linspace(0.6, 0.9, PROMPTS)
    noisy = base - 0.2 + 0.001 * np.random.default_rng(2).standard_normal(PROMPTS)
    sure = staleness_curve([target(0, base), target(1, noisy)], margin=0.05)
    hidden = staleness_curve([target(0, base), target(1, noisy, unseen=0.2)], margin=0.05)
    assert sure.passed == 1
    assert hidden.passed is None
    assert hidden.points[1].interval[1] == sure.points[1].interval[1]
    assert hidden.points[1].loss == sure.points[1].loss


def test_fresh_texts_have_a_loss_of_their_own() -> None:
    base = np.linspace(0.6, 0.9, PROMPTS)
    curve = staleness_curve([target(0, base), target(1, base, fresh=counts(0.9 * (1 + base) - 1))])
    assert curve.points[1].loss == 0
    assert curve.points[1].fresh_loss == pytest.approx((0.1, 0.1, 0.1))


def test_too_little_is_refused() -> None:
    base = np.linspace(0.5, 0.9, PROMPTS)
    with pytest.raises(RequestError, match="at least two targets"):
        staleness_curve([target(0, base)])
    with pytest.raises(MeasurementError, match="at least two prompts"):
        staleness_curve([target(0, base[:1]), target(1, base[:1])])


def test_the_break_even_is_where_the_lost_time_reaches_the_cost() -> None:
    base = np.full(PROMPTS, 0.8)
    lengths = [1.8, 1.71, 1.62, 1.44]
    curve = staleness_curve([target(number, base + at - 1.8) for number, at in enumerate(lengths)])
    costs = RetrainingCosts(retraining_ms=3000, token_ms=10, tokens_per_step=1000)
    found = break_even_of(curve, costs)
    by_hand = [1000 * 10 * (1.8 / length - 1) for length in lengths]
    assert found.lost_ms == pytest.approx(tuple(np.cumsum(by_hand)))
    assert found.at == 3
    assert found.range == (3, 3)
    assert found.next_ms == pytest.approx(by_hand[-1])
    dear = RetrainingCosts(retraining_ms=1e9, token_ms=10, tokens_per_step=1000)
    assert break_even_of(curve, dear).at is None


def test_a_better_drafter_never_pays_for_training() -> None:
    base = np.full(PROMPTS, 0.5)
    curve = staleness_curve([target(0, base), target(1, base + 0.1), target(2, base + 0.2)])
    found = break_even_of(curve, RetrainingCosts(retraining_ms=1, token_ms=1, tokens_per_step=1))
    assert found.at is None
    assert found.lost_ms[-1] < 0
