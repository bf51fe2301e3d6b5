"""Several drafters on the same prompts: which is best, which are not significantly below
it, and where a training curve turned over.

All intervals of a comparison hold together: each is Student's interval of the paired difference
(`gate.paired`) at a level that is Bonferroni-corrected for every pair of candidates. The best one
is chosen by the data, and it may be any, so nothing less would cover differences from it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from ..acceptance.counts import Counts
from .paired import Pair, level_of_each

LEVEL = 0.95
"""Confidence that all intervals of one comparison hold."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """How much shorter the acceptance length of one candidate is than another's, in tokens."""

    drop: float
    """Negative for a gain."""
    low: float
    high: float

    @property
    def is_drop(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Standing:
    """One candidate among the others."""

    length: float
    """Acceptance length."""
    from_best: PairedDifference | None
    """From the candidate with the greatest length; None for that one itself."""
    from_previous: PairedDifference | None
    """From the candidate before; None for the first."""
    from_best_before: PairedDifference | None
    """From the best of all candidates before; None for the first."""

    @property
    def is_best(self) -> bool:
        return self.from_best is None

    @property
    def is_below_best(self) -> bool:
        """Whether the candidate is significantly below the best."""
        return self.from_best is not None and self.from_best.is_drop

    @property
    def fell(self) -> bool:
        """Whether the candidate is below the best before it."""
        return self.from_best_before is not None and self.from_best_before.is_drop


def compare_candidates(candidates: Sequence[Counts], level: float = LEVEL) -> tuple[Standing, ...]:
    """Compare candidates, in their order, by acceptance length over the prompts that two of them
    share.

    Parameters
    ----------
    candidates
        Counts of each candidate on the same prompts, at least one; the first of equal ones is best.
    level
        Confidence that all intervals hold together.

    Returns
    -------
    tuple[Standing, ...]
        One for each candidate.

    Examples
    --------
    >>> import numpy as np
    >>> from pytest_specdec import Counts
    >>> def accepted(*tokens: float) -> Counts:
    ...     rounds = np.full(3, 10.0)
    ...     return Counts(("a", "b", "c"), ("all",) * 3, rounds, rounds[:, None] * 2.0,
    ...                   np.array(tokens)[:, None])
    >>> early, late = compare_candidates([accepted(8, 9, 10), accepted(12, 13, 14.3)])
    >>> late.is_best, early.is_below_best
    (True, True)
    """
    number = len(candidates)
    each = level_of_each(level, math.comb(number, 2))
    lengths = [counts.acceptance_length for counts in candidates]

    def difference(before: int, now: int) -> PairedDifference:
        pair = Pair.of(candidates[before], candidates[now])
        low, high = pair.interval(each)
        return PairedDifference(drop=pair.length_drop, low=low, high=high)

    def best_of(end: int) -> int:
        return max(range(end), key=lengths.__getitem__)

    best = best_of(number)
    return tuple(
        Standing(
            length=lengths[at],
            from_best=None if at == best else difference(best, at),
            from_previous=difference(at - 1, at) if at else None,
            from_best_before=difference(best_of(at), at) if at else None,
        )
        for at in range(number)
    )
