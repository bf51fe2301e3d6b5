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


def moments(of: AcceptanceField, end: End) -> Moments:
    counted, proposed = of.rounds_at(K, end)
    return round_moments(of.survival(proposed, K), of.starts, counted, counted)


@pytest.mark.parametrize("end", ["inside", "clip"])
def test_means_are_the_expected_counts(end: End) -> None:
    random_field = field(heads=2)
    moments_found, expected = moments(random_field, end), expected_counts(random_field, K, end)
    np.testing.assert_allclose(moments_found.rounds, expected.rounds)
    np.testing.assert_allclose(moments_found.accepted, expected.accepted.sum(1))


@pytest.mark.parametrize("end", ["inside", "clip"])
def test_variances_are_those_of_played_rounds(end: End) -> None:
    random_field, rng = field(), np.random.default_rng(11)
    computed = moments(random_field, end)
    played = [sample_rounds(random_field, K, rng, end) for _ in range(PLAYS)]
    rounds = np.array([[len(text) for text in play] for play in played])
    accepted = np.array([[sum(taken for _, taken in text) for text in play] for play in played])
    # The standard error of a variance is about sqrt(2 / plays) of it, of these discrete sums
    # somewhat more.
    np.testing.assert_allclose(rounds.var(0), computed.rounds_variance, rtol=0.12)
    np.testing.assert_allclose(accepted.var(0), computed.accepted_variance, rtol=0.12)
    both = np.array(
        [np.cov(rounds[:, row], accepted[:, row])[0, 1] for row in range(len(random_field.prompts))]
    )
    np.testing.assert_allclose(both, computed.covariance, rtol=0.15, atol=0.02)


def test_a_linear_sum_has_its_own_mean_and_variance() -> None:
    computed = moments(field(), "inside")
    mean, variance = computed.linear(1.0, -0.5)
    np.testing.assert_allclose(mean, computed.accepted - 0.5 * computed.rounds)
    np.testing.assert_allclose(
        variance, computed.accepted_variance + 0.25 * computed.rounds_variance - computed.covariance
    )


def test_where_nothing_is_random_the_variance_is_zero() -> None:
    random_field = field()
    sure = AcceptanceField(
        random_field.prompts,
        random_field.categories,
        np.round(random_field.accept),
        random_field.starts,
        random_field.lengths,
    )
    computed = moments(sure, "clip")
    assert not computed.rounds_variance.any()
    assert not computed.accepted_variance.any()


def test_a_round_that_is_played_but_not_counted_still_moves_the_others() -> None:
    random_field = field()
    played, proposed = random_field.rounds_at(K, "inside")
    counted = played.copy()
    counted[np.arange(len(random_field.prompts)), random_field.starts] = False
    survival = random_field.survival(proposed, K)
    every, later = (
        round_moments(survival, random_field.starts, played, seen) for seen in (played, counted)
    )
    np.testing.assert_allclose(later.rounds, every.rounds - 1)
    first = survival[np.arange(len(random_field.prompts)), random_field.starts].sum(1)
    np.testing.assert_allclose(later.accepted, every.accepted - first)


def test_all_longest_texts_and_none() -> None:
    nothing = AcceptanceField(
        (), (), np.zeros((0, 1, 0)), np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    )
    assert moments(nothing, "inside").rounds.shape == (0,)
