"""The bound on improbable counts: never below the truth, and not far above it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from acceptance.test_moments import field, moments

from pytest_specdec.acceptance.renewal import AcceptanceField, sample_rounds
from pytest_specdec.acceptance.tails import tail_bound

K = 3


def bound(own: AcceptanceField, excess: float, per_accepted: float = 0.0, per_round: float = 1.0) -> float:
    counted, proposed = own.rounds_at(K, "clip")
    mean, _ = moments(own, "clip").linear(per_accepted, per_round)
    law = (own.survival(proposed, K), own.starts, counted, counted)
    return tail_bound(*law, per_accepted=per_accepted, per_round=per_round, mean=float(mean.sum()), excess=excess)


def played(own: AcceptanceField, plays: int, per_accepted: float, per_round: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    runs = [sample_rounds(own, K, rng, "clip") for _ in range(plays)]
    return np.array([sum(per_accepted * taken + per_round for text in run for _, taken in text) for run in runs])


@pytest.mark.parametrize("weights", [(0.0, 1.0), (1.0, -1.2)])
@pytest.mark.parametrize("perfect", [False, True])
@pytest.mark.parametrize("side", [-1, 1])
def test_no_tail_of_played_rounds_is_above_it(weights: tuple[float, float], perfect: bool, side: int) -> None:
    own = field(texts=8)
    if perfect:  # few rejections: Poisson's law, where a normal tail promises too much
        accept = np.where(own.accept > 0, 1 - own.accept / 50, 0.0)
        own = AcceptanceField(own.prompts, own.categories, accept, own.starts, own.lengths)
    mean, variance = (part.sum() for part in moments(own, "clip").linear(*weights))
    sums = played(own, 3000, *weights)
    for z in (1.0, 2.0, 3.0):
        excess = side * z * math.sqrt(variance)
        share = float(np.mean(side * (sums - mean) >= abs(excess) - 1e-9))
        error = math.sqrt(max(share, 1 / 3000) / 3000)
        assert share - 3 * error <= bound(own, excess, *weights)


def test_it_falls_fast_enough_to_see_something() -> None:
    own = field(texts=8)
    deviation = math.sqrt(moments(own, "clip").rounds_variance.sum())
    assert bound(own, 4 * deviation) < 30 * math.erfc(4 / math.sqrt(2)) / 2


def test_no_excess_is_certain_and_the_impossible_has_no_chance() -> None:
    own = field()
    assert bound(own, 0.0) == 1.0
    assert bound(own, 1000.0) < 1e-100
