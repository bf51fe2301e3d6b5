"""Candidates compared on the same prompts, against scipy's paired intervals and by hand."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from helpers.records import counts
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate import candidates as module
from pytest_specdec.gate.candidates import compare_candidates

PROMPTS = 24


def candidate(accepted: np.ndarray) -> Counts:
    """Ten rounds a prompt, so that the pooled length is the mean over prompts."""
    return counts([10.0] * PROMPTS, accepted[:, None].tolist())


def curve(*means: float, noise: float, seed: int = 0) -> list[Counts]:
    """Candidates that accept `means` tokens a round, with noise shared by all and of their own."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 2.0, PROMPTS)
    return [candidate(10 * mean + shared + 10 * rng.normal(0, noise, PROMPTS)) for mean in means]


def test_intervals_are_those_of_paired_t_tests_at_the_level_of_all_pairs() -> None:
    candidates = curve(1.0, 1.5, 1.4, 1.2, noise=0.1)
    standings = compare_candidates(candidates)
    lengths = [candidate.accepted[:, 0] / 10 for candidate in candidates]
    each = 1 - 0.05 / 6
    for at, standing in enumerate(standings):
        for before, difference in (
            (1, standing.from_best),
            (at - 1, standing.from_previous),
            (0 if at == 1 else 1, standing.from_best_before),
        ):
            if difference is None:
                continue
            test = stats.ttest_rel(lengths[before], lengths[at])
            interval = test.confidence_interval(each)
            assert difference.drop == pytest.approx(np.mean(lengths[before] - lengths[at]))
            assert (difference.low, difference.high) == pytest.approx(tuple(interval))
    assert [standing.is_best for standing in standings] == [False, True, False, False]
    assert standings[1].from_best is standings[0].from_previous is None


def test_two_candidates_have_the_plain_95_percent_interval() -> None:
    first, second = curve(1.0, 1.1, noise=0.3)
    difference = compare_candidates([first, second])[0].from_best
    test = stats.ttest_rel(second.accepted[:, 0] / 10, first.accepted[:, 0] / 10)
    assert difference is not None
    assert (difference.low, difference.high) == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_a_curve_that_turns_over_falls_from_there_on() -> None:
    standings = compare_candidates(curve(1.0, 1.5, 1.8, 1.79, 1.4, 1.2, noise=0.02))
    assert [standing.fell for standing in standings] == [False] * 4 + [True, True]
    assert [standing.is_below_best for standing in standings] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]


def test_a_single_candidate_is_the_best_of_one() -> None:
    (alone,) = compare_candidates(curve(1.0, noise=0.1))
    assert (alone.is_best, alone.fell, alone.from_previous) == (True, False, None)


def test_one_prompt_decides_nothing() -> None:
    standings = compare_candidates([counts([10.0], [[5.0]]), counts([10.0], [[1.0]])])
    assert [standing.is_below_best for standing in standings] == [False, False]
    assert not standings[1].fell


def test_equal_candidates_are_told_apart_in_one_comparison_of_twenty_at_most() -> None:
    """The promise over whole comparisons: 400 of five equal candidates, an error rate of 5 % or
    less; 8 % is three standard errors above.
    """
    wrong = sum(
        any(
            standing.is_below_best or standing.fell
            for standing in compare_candidates(curve(*[1.5] * 5, noise=0.2, seed=seed))
        )
        for seed in range(400)
    )
    assert wrong <= 0.08 * 400


def test_prompts_that_one_candidate_lacks_are_left_out() -> None:
    whole = counts([10.0] * 3, [[5.0], [6.0], [40.0]], prompts=("a", "b", "c"))
    part = counts([10.0] * 2, [[4.0], [5.2]], prompts=("a", "b"))
    difference = compare_candidates([whole, part])[1].from_best
    assert difference is not None
    assert difference.drop == pytest.approx(0.09)


def test_the_example_of_the_docstring_runs() -> None:
    results = doctest.testmod(module)
    assert (results.attempted, results.failed) == (5, 0)
