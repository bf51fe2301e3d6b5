"""Mean and variance of a text's rounds and accepted tokens, exactly.

Given the text, rounds are a Markov chain over positions: a round at t that accepts m tokens is
followed by one at t + m + 1, whatever came before. One walk backwards over the positions gives the
first two moments of every sum over its rounds, as one walk forwards gives the first (`renewal`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .counts import Array
from .renewal import accepted_distribution


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of the counted rounds and their accepted tokens, (texts,) each."""

    rounds: Array
    accepted: Array
    rounds_variance: Array
    accepted_variance: Array
    covariance: Array

    def linear(self, per_accepted: float, per_round: float) -> tuple[Array, Array]:
        """(texts,) each: mean and variance of a sum of so much for each accepted token and so much
        for each round.
        """
        mean = per_accepted * self.accepted + per_round * self.rounds
        variance = (
            per_accepted**2 * self.accepted_variance
            + per_round**2 * self.rounds_variance
            + 2 * per_accepted * per_round * self.covariance
        )
        return mean, np.maximum(variance, 0.0)


def round_moments(
    survival: Array,
    starts: NDArray[np.int64],
    played: NDArray[np.bool_],
    counted: NDArray[np.bool_],
) -> Moments:
    """Moments of the rounds from `starts` on.

    `survival` (texts, longest, k) is the chance that a round at each start accepts draft steps
    0..i. Rounds follow each other where `played` (texts, longest) and end at the first start that
    is not; of those only the `counted` ones count.
    """
    texts, longest, k = survival.shape
    distribution = accepted_distribution(survival)
    steps = np.arange(k + 1.0)
    # By start: E N, E A, E NN, E AA, E NA of the rounds from there on; beyond the text nothing is
    # left to play.
    ahead = np.zeros((5, texts, longest + k + 2))
    for start in range(longest - 1, int(starts.min(initial=longest)) - 1, -1):
        is_counted = counted[:, start].astype(float)[:, None]
        taken = is_counted * steps
        n, a, nn, aa, na = ahead[:, :, start + 1 : start + k + 2]
        sums = (
            is_counted + n,
            taken + a,
            is_counted + 2 * is_counted * n + nn,
            taken**2 + 2 * taken * a + aa,
            is_counted * taken + is_counted * a + taken * n + na,
        )
        for row, values in enumerate(sums):
            ahead[row, :, start] = played[:, start] * (distribution[:, start] * values).sum(1)
    n, a, nn, aa, na = ahead[:, np.arange(texts), starts]
    return Moments(n, a, np.maximum(nn - n * n, 0.0), np.maximum(aa - a * a, 0.0), na - n * a)
