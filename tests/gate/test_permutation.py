"""The swap test against the enumeration of all labellings, and its p-values against the uniform
distribution.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from helpers.records import counts, scaled, steady_counts
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.paired import Pair
from pytest_specdec.gate.permutation import (
    can_resolve,
    paired_permutation_test,
    prompts_to_resolve,
    random_p_value,
    too_few,
)


def random_run(rng: np.random.Generator, shares: np.ndarray) -> Counts:
    """Two positions, the second half as likely as the first."""
    rounds = rng.integers(10, 50, len(shares))
    first = rng.binomial(rounds, shares)
    return counts(
        rounds.tolist(), np.stack([first, rng.binomial(first, shares / 2)], axis=1).tolist()
    )


def random_pair(seed: int, prompts: int, loss: float = 0.0, runs: tuple[int, int] = (1, 1)) -> Pair:
    rng = np.random.default_rng(seed)
    shares = rng.beta(3, 2, prompts)
    before = [random_run(rng, shares) for _ in range(runs[0])]
    return Pair.of(before, [random_run(rng, shares * (1 - loss)) for _ in range(runs[1])])


def standardised_residuals(pair: Pair) -> np.ndarray:
    """(metrics, runs, prompts): what each run lacks of the pooled ratio, in standard deviations of
    the sum over a labelling, which are taken from all labellings.
    """
    residuals = []
    for metric in range(1 + pair.now.k):
        above, below = (
            np.array([whole if metric == 0 else parts[:, metric - 1] for whole, parts in sides])
            for sides in (
                [(run.accepted.sum(1), run.accepted) for run in pair.runs],
                [(run.rounds, run.drafted) for run in pair.runs],
            )
        )
        residual = above.sum() / below.sum() * below - above
        subsets = itertools.combinations(range(len(pair.runs)), pair.now_runs)
        sums = np.array([residual[list(called)].sum(0) for called in subsets])
        residuals.append(residual / np.sqrt(sums.var(0).sum()))
    return np.array(residuals)


def enumerated_p_value(pair: Pair) -> float:
    """The share of all labellings whose largest standardised drop is at least the observed; written
    from the definition.
    """
    runs, prompts, today = len(pair.runs), pair.prompts, pair.now_runs
    residuals = standardised_residuals(pair)

    def largest(labels: Sequence[tuple[int, ...]]) -> float:
        """`labels[row]` holds the runs of a prompt that are called now."""
        called = (residuals[:, run, row] for row, runs in enumerate(labels) for run in runs)
        return float(max(sum(called)))

    observed = largest([tuple(range(runs - today, runs))] * prompts)
    every = itertools.product(itertools.combinations(range(runs), today), repeat=prompts)
    return float(np.mean([largest(labels) >= observed - 1e-12 for labels in every]))


def scipy_p_value(pair: Pair) -> float:
    """scipy's permutation test of the same statistic, all labellings enumerated; one run is now."""
    residuals, prompts = standardised_residuals(pair), np.arange(pair.prompts)

    def largest(*runs: np.ndarray) -> float:
        return float(max(residuals[:, runs[-1].astype(int), prompts].sum(1)))

    found = stats.permutation_test(
        [np.full(pair.prompts, run) for run in range(len(pair.runs))],
        largest,
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
        vectorized=False,
    )
    return float(found.pvalue)


def p_value(pair: Pair, *, level: float = 0.01, seed: int = 0) -> float:
    return paired_permutation_test(pair, level=level, seed=seed).p_value


@pytest.mark.parametrize("prompts", [2, 3, 5, 7])
@pytest.mark.parametrize("seed", range(3))
def test_with_few_prompts_all_labellings_are_enumerated(seed: int, prompts: int) -> None:
    pair = random_pair(seed, prompts, loss=0.1)
    assert p_value(pair) == pytest.approx(enumerated_p_value(pair))


@pytest.mark.parametrize(("prompts", "runs"), [(7, (1, 1)), (5, (1, 1)), (4, (2, 1)), (3, (3, 1))])
@pytest.mark.parametrize("seed", range(3))
def test_it_has_the_p_value_of_scipys_permutation_test(
    seed: int, prompts: int, runs: tuple[int, int]
) -> None:
    pair = random_pair(seed, prompts, loss=0.2, runs=runs)
    assert p_value(pair, level=0.001) == pytest.approx(scipy_p_value(pair))


@pytest.mark.parametrize("runs", [(2, 1), (3, 1), (1, 2), (2, 2)])
def test_repeats_are_permuted_among_both_sides(runs: tuple[int, int]) -> None:
    pair = random_pair(2, 3, loss=0.5, runs=runs)
    exact = enumerated_p_value(pair)
    assert exact < 0.1, "else a first glance is enough"
    assert p_value(pair, level=0.0005) == pytest.approx(exact)


def test_repeats_in_the_baseline_see_smaller_drops() -> None:
    """Eight stored runs nearly halve the variance of the comparison."""
    seen = [
        np.mean(
            [
                p_value(random_pair(seed, 40, loss=0.08, runs=(repeats, 1)), level=0.02) <= 0.02
                for seed in range(120)
            ]
        )
        for repeats in (1, 8)
    ]
    assert seen[1] > seen[0] + 0.1


def test_identical_records_have_a_p_value_of_one() -> None:
    assert p_value(Pair(steady_counts(6), steady_counts(6))) == 1.0


def test_a_loss_in_every_prompt_has_the_smallest_p_value_there_is() -> None:
    before = steady_counts(8)
    assert p_value(Pair(before, scaled(before, 0.9))) == pytest.approx(2**-8)


def test_a_gain_is_no_drop_and_is_seen_as_a_gain() -> None:
    before = steady_counts(8)
    pair = Pair(scaled(before, 0.9), before)
    assert p_value(pair) == 1.0
    assert paired_permutation_test(pair, level=0.01, seed=0, gain=True).p_value == pytest.approx(
        2**-8
    )


def test_with_many_prompts_the_p_value_counts_itself() -> None:
    before = steady_counts(30)
    assert p_value(Pair(before, scaled(before, 0.5))) == pytest.approx(1 / 1001)


def test_sampled_labellings_approach_the_enumeration() -> None:
    pair = random_pair(4, 11, loss=0.1)
    exact = enumerated_p_value(pair)
    assert 0.001 < exact < 0.1
    assert p_value(pair, level=0.006, seed=1) == pytest.approx(
        exact, abs=5 * (exact * (1 - exact) / 1667) ** 0.5
    )


def test_the_same_seed_gives_the_same_p_value() -> None:
    pair = random_pair(7, 20, loss=0.1)
    assert len({p_value(pair, level=0.02, seed=seed) for seed in (3, 3, 3)}) == 1


@pytest.mark.parametrize("position", [1, 2, 3])
def test_a_loss_at_one_position_is_named_and_seen_where_the_length_hides_it(position: int) -> None:
    """The last survival falls from 0.05 to 0.03 in noise of the first position that drowns it in
    the sum.
    """
    rng = np.random.default_rng(position)
    shares = np.full(3, 0.0)
    shares[position - 1] = 1.0

    def run(loss: float) -> Counts:
        rounds = np.full(40, 200)
        reached = np.stack(
            [rng.binomial(rounds, 0.5), rng.binomial(rounds, 0.2), rng.binomial(rounds, 0.05)],
            axis=1,
        )
        reached = np.where(shares > 0, rng.binomial(reached, 1 - loss), reached)
        return counts(rounds.tolist(), np.sort(reached, axis=1)[:, ::-1].tolist())

    swaps = paired_permutation_test(Pair(run(0.0), run(0.4)), level=0.01, seed=0)
    assert swaps.p_value <= 0.01
    assert swaps.position == position


@pytest.mark.parametrize(
    ("prompts", "level", "enough"),
    [(6, 0.01, False), (7, 0.01, True), (4, 0.0625, True), (3, 0.0625, False)],
)
def test_a_level_needs_prompts(prompts: int, level: float, enough: bool) -> None:
    assert can_resolve(prompts, level) is enough
    assert (2.0**-prompts <= level) is enough
    assert (prompts >= prompts_to_resolve(level)) is enough


def test_a_single_prompt_can_show_nothing() -> None:
    assert p_value(Pair(steady_counts(1), steady_counts(1)), level=0.6) == 1.0


@pytest.mark.parametrize("runs", [(1, 1), (4, 1)])
@pytest.mark.parametrize("prompts", [4, 30])
def test_p_values_to_be_multiplied_are_uniform(prompts: int, runs: tuple[int, int]) -> None:
    values = [
        random_p_value(random_pair(seed, prompts, runs=runs), level=0.1, seed=seed)
        for seed in range(400)
    ]
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_ties_are_broken_by_one_lot() -> None:
    """Two prompts in thirty differ, so that most labellings tie and the lot decides."""
    before, now = steady_counts(30), steady_counts(30)
    now.accepted[:2] *= 0.9
    for pair in (Pair(before, before), Pair(before, now)):
        values = np.array([random_p_value(pair, level=0.1, seed=seed) for seed in range(400)])
        expected = "uniform" if pair.now is before else stats.uniform(0, 0.25).cdf
        assert stats.kstest(values, expected).pvalue > 1e-3


def test_a_collapse_reaches_far_below_the_level() -> None:
    before = steady_counts(40)
    values = [
        random_p_value(Pair(before, scaled(before, 0.5)), level=0.01, seed=seed)
        for seed in range(20)
    ]
    assert float(np.mean(values)) < 5e-4


def test_too_few_prompts_are_counted_in_words() -> None:
    assert (
        too_few(1, 0.01, "this gate") == "1 prompt can never fail this gate; use at least 7 prompts"
    )
    assert (
        too_few(6, 0.01, "this gate")
        == "6 prompts can never fail this gate; use at least 7 prompts"
    )
