"""Mean and variance of rounds and accepted tokens: against the walk forwards, and against rounds
played at random.
"""

from __future__ import annotations

import numpy as np
import pytest

from pytest_specdec.acceptance.moments import Moments, round_moments
from pytest_specdec.acceptance.renewal import AcceptanceField, End, expected_counts, sample_rounds

K, PLAYS = 3, 4000


def field(texts: int = 5, heads: int = 1) -> AcceptanceField:
    rng = np.random.default_rng(7)
    lengths = rng.integers(12, 20, texts)
    accept = rng.beta(1, 1, (texts, heads, 20))
    accept[np.broadcast_to(np.arange(20) >= lengths[:, None, None], accept.shape)] = 0.0
    names = tuple(map(str, range(texts)))
    return AcceptanceField(names, ("all",) * texts, accept, rng.integers(2, 5, texts), lengths)


def moments(own: AcceptanceField, end: End) -> Moments:
    counted, proposed = own.rounds_at(K, end)
    return round_moments(own.survival(proposed, K), own.starts, counted, counted)


@pytest.mark.parametrize("end", ["inside", "clip"])
def test_means_are_the_expected_counts(end: End) -> None:
    own = field(heads=2)
    found, expected = moments(own, end), expected_counts(own, K, end)
    np.testing.assert_allclose(found.rounds, expected.rounds)
    np.testing.assert_allclose(found.accepted, expected.accepted.sum(1))


@pytest.mark.parametrize("end", ["inside", "clip"])
def test_variances_are_those_of_played_rounds(end: End) -> None:
    own, rng = field(), np.random.default_rng(11)
    found = moments(own, end)
    played = [sample_rounds(own, K, rng, end) for _ in range(PLAYS)]
    rounds = np.array([[len(text) for text in one] for one in played])
    accepted = np.array([[sum(taken for _, taken in text) for text in one] for one in played])
    # The standard error of a variance is about sqrt(2 / plays) of it, of these discrete sums
    # somewhat more.
    np.testing.assert_allclose(rounds.var(0), found.rounds_variance, rtol=0.12)
    np.testing.assert_allclose(accepted.var(0), found.accepted_variance, rtol=0.12)
    both = np.array(
        [np.cov(rounds[:, row], accepted[:, row])[0, 1] for row in range(len(own.prompts))]
    )
    np.testing.assert_allclose(both, found.covariance, rtol=0.15, atol=0.02)


def test_a_linear_sum_has_its_own_mean_and_variance() -> None:
    found = moments(field(), "inside")
    mean, variance = found.linear(1.0, -0.5)
    np.testing.assert_allclose(mean, found.accepted - 0.5 * found.rounds)
    np.testing.assert_allclose(
        variance, found.accepted_variance + 0.25 * found.rounds_variance - found.covariance
    )


def test_where_nothing_is_random_the_variance_is_zero() -> None:
    own = field()
    sure = AcceptanceField(
        own.prompts, own.categories, np.round(own.accept), own.starts, own.lengths
    )
    found = moments(sure, "clip")
    assert not found.rounds_variance.any()
    assert not found.accepted_variance.any()


def test_a_round_that_is_played_but_not_counted_still_moves_the_others() -> None:
    own = field()
    played, proposed = own.rounds_at(K, "inside")
    counted = played.copy()
    counted[np.arange(len(own.prompts)), own.starts] = False
    survival = own.survival(proposed, K)
    every, later = (round_moments(survival, own.starts, played, seen) for seen in (played, counted))
    np.testing.assert_allclose(later.rounds, every.rounds - 1)
    first = survival[np.arange(len(own.prompts)), own.starts].sum(1)
    np.testing.assert_allclose(later.accepted, every.accepted - first)


def test_all_longest_texts_and_none() -> None:
    nothing = AcceptanceField(
        (), (), np.zeros((0, 1, 0)), np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    )
    assert moments(nothing, "inside").rounds.shape == (0,)
