"""Along which axis acceptance moves: differences of acceptance lengths between values of an axis.

Where both values were measured on the same prompts, the difference is paired by prompt
(`gate.paired`); between two groups of prompts it is that of independent groups, with the fewer
degrees of freedom of the two, which is conservative. All intervals that a session shows of one axis
hold together, by Bonferroni.
"""

from __future__ import annotations

import dataclasses
import math

from ..acceptance.counts import Counts
from ..common.student import student_quantile
from .paired import Pair, level_of_each

LEVEL = 0.95
"""Confidence that all intervals of one axis hold together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LengthChange:
    """How much an acceptance length changes from one value of an axis to another, in tokens."""

    before: float
    now: float
    low: float
    """Of the change, infinite where the interval is unknown, or holds all that is possible."""
    high: float
    prompts: int
    """Pairs, or prompts of both groups."""

    @property
    def change(self) -> float:
        return self.now - self.before

    @property
    def moves(self) -> bool:
        """Whether the interval leaves out no change."""
        return self.low > 0 or self.high < 0

    def within(self, most: int) -> LengthChange:
        """The same, with no interval where that holds every change of at most `most` tokens: so
        few prompts say nothing.
        """
        if self.low > -most or self.high < most:
            return self
        return dataclasses.replace(self, low=-math.inf, high=math.inf)


def paired_change(before: Counts, now: Counts, comparisons: int) -> LengthChange:
    """Over the prompts that both have; `comparisons` share the level.

    Examples
    --------
    >>> import numpy as np
    >>> from pytest_specdec import Counts
    >>> def accepted(*tokens: float) -> Counts:
    ...     rounds = np.full(3, 10.0)
    ...     return Counts(("a", "b", "c"), ("all",) * 3, rounds, rounds[:, None] * 2.0,
    ...                   np.array(tokens)[:, None])
    >>> found = paired_change(accepted(8, 9, 10), accepted(12, 13, 14.3), comparisons=2)
    >>> found.moves, round(found.change, 2)
    (True, 0.41)
    """
    pair = Pair.of(before, now)
    if not (pair.before.total_rounds > 0 and pair.now.total_rounds > 0):
        return LengthChange(
            before=math.nan, now=math.nan, low=-math.inf, high=math.inf, prompts=pair.prompts
        )
    low, high = pair.interval(level_of_each(LEVEL, comparisons))
    lengths = (pair.before.acceptance_length, pair.now.acceptance_length)
    return LengthChange(
        before=lengths[0], now=lengths[1], low=-high, high=-low, prompts=pair.prompts
    )


def unpaired_change(before: Counts, now: Counts, comparisons: int) -> LengthChange:
    """Between groups of other prompts; `comparisons` share the level."""
    groups = [int((counts.rounds > 0).sum()) for counts in (before, now)]
    change = now.acceptance_length - before.acceptance_length
    error = math.hypot(before.standard_error, now.standard_error)
    reach = math.inf
    if min(groups) > 1 and math.isfinite(error):
        quantile = (1 + level_of_each(LEVEL, comparisons)) / 2
        reach = student_quantile(quantile, min(groups)) * error
    return LengthChange(
        before=before.acceptance_length,
        now=now.acceptance_length,
        low=change - reach,
        high=change + reach,
        prompts=sum(groups),
    )
