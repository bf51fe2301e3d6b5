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

pytestmark = pytest.mark.slow

K = 3


def distribution(of: AcceptanceField, gains: np.ndarray | None = None) -> SumDistribution:
    counted, proposed = of.rounds_at(K, "clip")
    ones = np.ones((*counted.shape, K + 1), dtype=int)
    return sum_distribution(
        of.survival(proposed, K), of.starts, counted, ones if gains is None else gains
    )


def random_gains(of: AcceptanceField, most: int) -> np.ndarray:
    return np.random.default_rng(5).integers(-most, most + 1, (*of.accept[:, 0].shape, K + 1))


def enumerated(of: AcceptanceField, gains: np.ndarray) -> dict[int, float]:
    """Every way in which the rounds of one text can go."""
    counted, proposed = of.rounds_at(K, "clip")
    survival = of.survival(proposed, K)[0]
    chances: dict[int, float] = {}

    def walk(start: int, so_far: int, chance: float) -> None:
        if start >= of.lengths[0] or not counted[0, start]:
            chances[so_far] = chances.get(so_far, 0.0) + chance
            return
        edges = [1.0, *survival[start], 0.0]
        for taken in range(K + 1):
            if (part := edges[taken] - edges[taken + 1]) > 0:
                walk(start + taken + 1, so_far + int(gains[0, start, taken]), chance * part)

    walk(int(of.starts[0]), 0, 1.0)
    return chances


@pytest.mark.parametrize("most", [1, 7])
def test_one_text_is_what_enumeration_gives(most: int) -> None:
    single = field(texts=1)
    gains = random_gains(single, most)
    computed, exact = distribution(single, gains), enumerated(single, gains)
    for value in range(min(exact) - 2, max(exact) + 3):
        at = value - computed.least
        chance = computed.chances[at] if 0 <= at < len(computed.chances) else 0.0
        assert chance == pytest.approx(exact.get(value, 0.0), abs=1e-12)
        below = sum(single for sum_, single in exact.items() if sum_ <= value)
        above = sum(single for sum_, single in exact.items() if sum_ >= value)
        assert computed.p_value(value) == pytest.approx(min(1.0, 2 * min(below, above)), abs=1e-9)


def test_mean_and_deviation_are_the_moments() -> None:
    several = field(texts=8)
    computed, known = distribution(several), moments(several, "clip")
    assert computed.mean == pytest.approx(known.rounds.sum())
    assert computed.deviation == pytest.approx(math.sqrt(known.rounds_variance.sum()))
    assert computed.chances.sum() == pytest.approx(1)
    assert computed.z(round(computed.mean) + 3) == pytest.approx(
        (round(computed.mean) + 3 - computed.mean) / computed.deviation
    )


@pytest.mark.parametrize("perfect", [False, True])
def test_p_values_of_played_rounds_are_valid(perfect: bool) -> None:
    """A nearly perfect drafter, too: few rejections follow Poisson's distribution, and a normal
    tail promises too much.
    """
    several = field(texts=8)
    if perfect:
        accept = np.where(several.accept > 0, 1 - several.accept / 50, 0.0)
        several = AcceptanceField(
            several.prompts, several.categories, accept, several.starts, several.lengths
        )
    computed, rng, plays = distribution(several), np.random.default_rng(3), 3000
    sums = [sum(map(len, sample_rounds(several, K, rng, "clip"))) for _ in range(plays)]
    for level in (0.2, 0.05, 0.01):
        share = np.mean([computed.p_value(value) <= level for value in sums])
        assert share <= level + 3 * math.sqrt(level / plays)


def test_a_window_that_is_too_narrow_is_widened() -> None:
    several = field(texts=2)
    gains = np.full((*several.accept[:, 0].shape, K + 1), 1000)
    assert distribution(several, gains).mean == pytest.approx(1000 * distribution(several).mean)


def test_what_is_certain_has_no_spread() -> None:
    random_field = field()
    sure = AcceptanceField(
        random_field.prompts,
        random_field.categories,
        np.ones_like(random_field.accept),
        random_field.starts,
        random_field.lengths,
    )
    computed = distribution(sure)
    value = round(computed.mean)
    assert computed.deviation == 0
    assert (computed.z(value), computed.p_value(value)) == (0.0, 1.0)
    assert computed.z(value + 1) == math.inf
    assert computed.p_value(value + 1) < 1e-9


def test_no_text_adds_nothing() -> None:
    nothing = AcceptanceField(
        (), (), np.zeros((0, 1, 0)), np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    )
    assert distribution(nothing).p_value(0) == 1.0
