"""The power of a gate: the smallest detectable drop, and the number of prompts that would detect a
given one.
"""

from __future__ import annotations

import math

from .paired import Pair

POWER = 0.8
"""Probability that a run with the printed drop fails."""


def smallest_detectable_drop(pair: Pair, *, level: float, margin: float) -> float | None:
    """The relative drop of the acceptance length that fails with probability `POWER`; None where
    none can be promised.

    The observed drop must pass both conditions of failure: beyond the critical value of the
    max-statistic (bounded by a Student quantile shared among its 1 + k metrics) and at least the
    margin. The spread is that of the prompts.
    """
    error = relative_error(pair)
    if not 0 < error < math.inf:
        return None
    drop = max(_critical(pair, level), margin / error) * error + _slack(pair) * error
    # A drafter can lose no more than all of its accepted tokens.
    return drop if drop < 1 - 1 / pair.before.acceptance_length else None


def prompts_to_see(pair: Pair, drop: float, *, level: float) -> int | None:
    """Number of prompts like these with which a relative `drop` would be detectable; None where the
    spread is unknown or zero.
    """
    error = relative_error(pair)
    if not (0 < error < math.inf and drop > 0):
        return None
    return math.ceil(pair.prompts * ((_critical(pair, level) + _slack(pair)) * error / drop) ** 2)


def relative_error(pair: Pair) -> float:
    """Standard error of the relative drop of the acceptance length, clustered by prompt."""
    return pair.standard_error() / pair.before.acceptance_length


def _critical(pair: Pair, level: float) -> float:
    from scipy import stats

    return float(stats.t.isf(level / (1 + pair.now.k), pair.prompts - 1))


def _slack(pair: Pair) -> float:
    from scipy import stats

    return float(stats.t.isf(1 - POWER, pair.prompts - 1))
