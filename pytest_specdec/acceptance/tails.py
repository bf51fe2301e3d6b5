"""How improbable counts are, without a normal approximation: Chernoff's bound from the exact law of the rounds.

The normal tail promises too much where a drafter is nearly perfect: rejections are then few and follow Poisson's law. The
bound holds for every pair: a sum over independent texts of a linear function of their rounds lies `excess` or more
beyond its mean with probability at most min over t of E exp(t (S - E S)) exp(-t excess).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from .counts import Array
from .renewal import accepted_law

_STEEPEST = 60.0
"""Largest tilt tried, in units of the largest weight: beyond it no bound that matters changes."""


def tail_bound(
    survival: Array,
    starts: NDArray[np.int64],
    played: NDArray[np.bool_],
    counted: NDArray[np.bool_],
    *,
    per_accepted: float,
    per_round: float,
    mean: float,
    excess: float,
) -> float:
    """Bound on the chance that the sum of so much for each accepted token and each round is as far from its mean, on that side.

    `survival`, `starts`, `played` and `counted` are those of `moments.round_moments`, `mean` is the sum's over all texts.
    """
    if not excess:
        return 1.0
    law, side = accepted_law(survival), math.copysign(1.0, excess)
    scale = max(abs(per_accepted), abs(per_round))

    def exponent(tilt: float) -> float:
        own = side * tilt
        grown = _log_mgf(law, starts, played, counted, own * per_accepted, own * per_round)
        return float(grown.sum()) - own * (mean + excess)

    found = optimize.minimize_scalar(exponent, bounds=(0.0, _STEEPEST / scale), method="bounded")
    return math.exp(min(0.0, float(found.fun)))


def _log_mgf(
    law: Array, starts: NDArray[np.int64], played: NDArray[np.bool_], counted: NDArray[np.bool_], accepted: float, rounds: float
) -> Array:
    """(texts,): log E exp(accepted A + rounds N) of each text's rounds."""
    texts, longest, ends = law.shape
    weights = accepted * np.arange(ends) + rounds
    ahead = np.zeros((texts, longest + ends + 1))
    with np.errstate(divide="ignore"):
        logs = np.log(np.maximum(law, 0.0))
    for start in range(longest - 1, int(starts.min(initial=longest)) - 1, -1):
        terms = logs[:, start] + counted[:, start, None] * weights + ahead[:, start + 1 : start + ends + 1]
        ahead[:, start] = np.where(played[:, start], np.logaddexp.reduce(terms, axis=1), 0.0)
    found: Array = ahead[np.arange(texts), starts]
    return found
