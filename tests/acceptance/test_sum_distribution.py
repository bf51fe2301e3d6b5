"""The exact distribution of sums over rounds: against enumeration, moments, and rounds played at
random.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from acceptance.test_moments import field, moments

from pytest_specdec.acceptance.renewal import AcceptanceField, sample_rounds
from pytest_specdec.acceptance.sum_distribution import SumDistribution, sum_distribution

K = 3


def distribution(own: AcceptanceField, gains: np.ndarray | None = None) -> SumDistribution:
    counted, proposed = own.rounds_at(K, "clip")
    ones = np.ones((*counted.shape, K + 1), dtype=int)
    return sum_distribution(
        own.survival(proposed, K), own.starts, counted, ones if gains is None else gains
    )


def random_gains(own: AcceptanceField, most: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-most, most + 1, (*own.accept[:, 0].shape, K + 1))


def enumerated(own: AcceptanceField, gains: np.ndarray) -> dict[int, float]:
    """Every way in which the rounds of one text can go."""
    counted, proposed = own.rounds_at(K, "clip")
    survival = own.survival(proposed, K)[0]
    found: dict[int, float] = {}

    def walk(start: int, so_far: int, chance: float) -> None:
        if start >= own.lengths[0] or not counted[0, start]:
            found[so_far] = found.get(so_far, 0.0) + chance
            return
        edges = [1.0, *survival[start], 0.0]
        for taken in range(K + 1):
            if (part := edges[taken] - edges[taken + 1]) > 0:
                walk(start + taken + 1, so_far + int(gains[0, start, taken]), chance * part)

    walk(int(own.starts[0]), 0, 1.0)
    return found


@pytest.mark.parametrize("most", [1, 7])
def test_one_text_is_what_enumeration_gives(most: int) -> None:
    own = field(texts=1)
    gains = random_gains(own, most)
    found, exact = distribution(own, gains), enumerated(own, gains)
    for value in range(min(exact) - 2, max(exact) + 3):
        at = value - found.least
        chance = found.chances[at] if 0 <= at < len(found.chances) else 0.0
        assert chance == pytest.approx(exact.get(value, 0.0), abs=1e-12)
        below = sum(own for sum_, own in exact.items() if sum_ <= value)
        above = sum(own for sum_, own in exact.items() if sum_ >= value)
        assert found.p_value(value) == pytest.approx(min(1.0, 2 * min(below, above)), abs=1e-9)


def test_mean_and_deviation_are_the_moments() -> None:
    own = field(texts=8)
    found, known = distribution(own), moments(own, "clip")
    assert found.mean == pytest.approx(known.rounds.sum())
    assert found.deviation == pytest.approx(math.sqrt(known.rounds_variance.sum()))
    assert found.chances.sum() == pytest.approx(1)
    assert found.z(round(found.mean) + 3) == pytest.approx(
        (round(found.mean) + 3 - found.mean) / found.deviation
    )


@pytest.mark.parametrize("perfect", [False, True])
def test_p_values_of_played_rounds_are_valid(perfect: bool) -> None:
    """A nearly perfect drafter, too: few rejections follow Poisson's distribution, and a normal
    tail promises too much.
    """
    own = field(texts=8)
    if perfect:
        accept = np.where(own.accept > 0, 1 - own.accept / 50, 0.0)
        own = AcceptanceField(own.prompts, own.categories, accept, own.starts, own.lengths)
    found, rng, plays = distribution(own), np.random.default_rng(3), 3000
    sums = [sum(map(len, sample_rounds(own, K, rng, "clip"))) for _ in range(plays)]
    for level in (0.2, 0.05, 0.01):
        share = np.mean([found.p_value(value) <= level for value in sums])
        assert share <= level + 3 * math.sqrt(level / plays)


def test_a_window_that_is_too_narrow_is_widened() -> None:
    own = field(texts=2)
    gains = np.full((*own.accept[:, 0].shape, K + 1), 1000)
    assert distribution(own, gains).mean == pytest.approx(1000 * distribution(own).mean)


def test_what_is_certain_has_no_spread() -> None:
    own = field()
    sure = AcceptanceField(
        own.prompts, own.categories, np.ones_like(own.accept), own.starts, own.lengths
    )
    found = distribution(sure)
    value = round(found.mean)
    assert found.deviation == 0
    assert (found.z(value), found.p_value(value)) == (0.0, 1.0)
    assert found.z(value + 1) == math.inf
    assert found.p_value(value + 1) < 1e-9


def test_no_text_adds_nothing() -> None:
    nothing = AcceptanceField(
        (), (), np.zeros((0, 1, 0)), np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    )
    assert distribution(nothing).p_value(0) == 1.0
