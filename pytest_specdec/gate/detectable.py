"""The power of a gate: the smallest detectable drop, and the number of prompts that would detect a
given one.
"""

from __future__ import annotations

import math
from typing import Protocol

from ..common.student import student_quantile
from .paired import Pair


class ComparedMetric(Protocol):
    """A metric of a pair."""

    @property
    def pair(self) -> Pair:
        """Both sides' counts."""

    @property
    def error(self) -> float:
        """Standard error of the relative drop, over prompts like these."""

    @property
    def drop(self) -> float:
        """Relative."""


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


def smallest_bounded_drop(facts: ComparedMetric, margin: float, level: float) -> float | None:
    """The relative drop of a metric that fails with probability `POWER` where a Student bound over
    prompts decides; None where none can be promised.
    """
    error = facts.error
    if not math.isfinite(error):
        return None
    if error == 0:
        return margin
    return max(_student(level, facts.pair), margin / error) * error + _slack(facts.pair) * error


def prompts_to_bound(facts: ComparedMetric, level: float) -> int | None:
    """Number of prompts like these with which the observed drop's bound would be above 0; None
    where that is not known.
    """
    error, drop = facts.error, facts.drop
    if not (0 < error < math.inf and drop > 0):
        return None
    reach = _student(level, facts.pair) * error / drop
    return max(math.ceil(facts.pair.prompts * reach**2), facts.pair.prompts + 1)


def prompts_to_detect(facts: ComparedMetric, drop: float, level: float) -> int | None:
    """Number of prompts like these with which `drop` would be the `smallest_bounded_drop`; None
    where the spread is unknown or zero.
    """
    error = facts.error
    if not (0 < error < math.inf and drop > 0):
        return None
    reach = (_student(level, facts.pair) + _slack(facts.pair)) * error / drop
    return max(math.ceil(facts.pair.prompts * reach**2), facts.pair.prompts + 1)


def relative_error(pair: Pair) -> float:
    """Standard error of the relative drop of the acceptance length, clustered by prompt."""
    return pair.standard_error() / pair.before.acceptance_length


def _student(level: float, pair: Pair) -> float:
    """Upper quantile of Student's distribution over the pair's prompts."""
    return -student_quantile(level, pair.prompts)


def _critical(pair: Pair, level: float) -> float:
    return _student(level / (1 + pair.now.k), pair)


def _slack(pair: Pair) -> float:
    return _student(1 - POWER, pair)
