"""The swap test against the enumeration of all swappings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from records import counts, scaled, steady_counts

from pytest_specdec.gate.paired import Pair
from pytest_specdec.gate.permutation import can_resolve, swap_p_value


def random_pair(seed: int, prompts: int, loss: float = 0.0) -> Pair:
    rng = np.random.default_rng(seed)
    rounds = rng.integers(10, 50, (2, prompts))
    shares = rng.beta(3, 2, prompts) * np.array([[1.0], [1.0 - loss]])
    accepted = rng.binomial(rounds, shares)
    before, now = (counts(rounds[side].tolist(), accepted[side][:, None].tolist()) for side in (0, 1))
    return Pair(before, now)


def enumerated_p_value(pair: Pair) -> float:
    """The share of all swappings with a drop at least as large; written from the definition."""
    sides = [(side.rounds, side.accepted.sum(1)) for side in (pair.before, pair.now)]

    def drop(swaps: tuple[int, ...]) -> float:
        totals = [[0.0, 0.0], [0.0, 0.0]]
        for row, swap in enumerate(swaps):
            for side in (0, 1):
                rounds, accepted = sides[side ^ swap]
                totals[side][0] += rounds[row]
                totals[side][1] += accepted[row]
        return totals[0][1] / totals[0][0] - totals[1][1] / totals[1][0]

    observed = drop((0,) * pair.prompts)
    return float(np.mean([drop(swaps) >= observed - 1e-12 for swaps in itertools.product((0, 1), repeat=pair.prompts)]))


@pytest.mark.parametrize("prompts", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(3))
def test_with_few_prompts_all_swappings_are_enumerated(seed: int, prompts: int) -> None:
    pair = random_pair(seed, prompts, loss=0.1)
    assert swap_p_value(pair, level=0.01, seed=0) == pytest.approx(enumerated_p_value(pair))


def test_identical_records_have_a_p_value_of_one() -> None:
    assert swap_p_value(Pair(steady_counts(6), steady_counts(6)), level=0.01, seed=0) == 1.0


def test_a_loss_in_every_prompt_has_the_smallest_p_value_there_is() -> None:
    before = steady_counts(8)
    assert swap_p_value(Pair(before, scaled(before, 0.9)), level=0.01, seed=0) == pytest.approx(2**-8)


def test_a_gain_is_no_drop() -> None:
    before = steady_counts(8)
    assert swap_p_value(Pair(scaled(before, 0.9), before), level=0.01, seed=0) == 1.0


def test_with_many_prompts_the_p_value_counts_itself() -> None:
    before = steady_counts(30)
    assert swap_p_value(Pair(before, scaled(before, 0.5)), level=0.01, seed=0) == pytest.approx(1 / 1001)


def test_sampled_swappings_approach_the_enumeration() -> None:
    pair = random_pair(4, 12)
    exact = enumerated_p_value(pair)
    assert 0.01 < exact < 0.5
    sampled = swap_p_value(pair, level=0.004, seed=1)
    assert sampled == pytest.approx(exact, abs=5 * (exact * (1 - exact) / 2500) ** 0.5)


def test_the_same_seed_gives_the_same_p_value() -> None:
    pair = random_pair(7, 20)
    values = {swap_p_value(pair, level=0.02, seed=seed) for seed in (3, 3, 3)}
    assert len(values) == 1


@pytest.mark.parametrize(
    ("prompts", "level", "enough"), [(6, 0.01, False), (7, 0.01, True), (4, 0.0625, True), (3, 0.0625, False)]
)
def test_a_level_needs_prompts(prompts: int, level: float, enough: bool) -> None:
    assert can_resolve(prompts, level) is enough
    assert (2.0**-prompts <= level) is enough


def test_a_single_prompt_can_show_nothing() -> None:
    assert swap_p_value(Pair(steady_counts(1), steady_counts(1)), level=0.6, seed=0) == 1.0
