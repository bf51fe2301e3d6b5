"""The exact distribution of a sum over the rounds of given texts, for p-values without an
approximation.

Given the text, rounds are a Markov chain over positions (`renewal`). A sum of whole numbers, one
for each round by its start and its accepted tokens, therefore has a distribution that one walk
backwards over the positions gives for each text; texts are independent, so their distributions
convolve. A normal tail would promise too much where a drafter is nearly perfect, and Chernoff's
bound asks for a third more tokens.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from .counts import Array
from .renewal import accepted_distribution

_NEGLIGIBLE = 1e-13
"""Mass that may fall outside the window of sums; it is added to every p-value."""
_TRIM = 1e-22
"""Mass of the ends of a distribution that are cut off between two convolutions."""


@dataclasses.dataclass(frozen=True)
class SumDistribution:
    """The distribution of a whole-numbered sum.

    Attributes:
        least: The smallest sum of the window.
        chances: (window,) chance of `least`, `least + 1` and so on.
        lost: Chance of sums outside the window, at most.
    """

    least: int
    chances: Array
    lost: float

    @property
    def mean(self) -> float:
        return float(self._sums @ self.chances)

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 for a sum that is certain."""
        variance = float((self._sums - self.mean) ** 2 @ self.chances)
        return math.sqrt(variance) if variance > _NEGLIGIBLE else 0.0

    def z(self, value: int) -> float:
        """Standard deviations by which a sum lies above the mean; infinite where the sum was
        certain and is another.
        """
        excess = value - self.mean
        if abs(excess) < 1e-6:
            return 0.0
        return excess / self.deviation if self.deviation else math.copysign(math.inf, excess)

    def p_value(self, value: int) -> float:
        """Two-sided p-value of a sum: twice the smaller tail, the sum itself included. Valid at
        every level.
        """
        at = value - self.least
        below = float(self.chances[: max(at + 1, 0)].sum())
        above = float(self.chances[max(at, 0) :].sum())
        return min(1.0, 2 * (min(below, above) + self.lost))

    @property
    def _sums(self) -> Array:
        sums: Array = self.least + np.arange(len(self.chances), dtype=float)
        return sums


def sum_distribution(
    survival: Array, starts: NDArray[np.int64], played: NDArray[np.bool_], gains: NDArray[np.int64]
) -> SumDistribution:
    """The distribution of the sum of the gains of all rounds of all texts.

    Args:
        survival: (texts, longest, k) chance that a round at each start accepts draft steps 0..i,
            given the text.
        starts: (texts,) where each text's first round starts.
        played: (texts, longest) whether a round takes place at each start; the first start without
            one ends the text.
        gains: (texts, longest, k + 1) what a round at each start that accepts so many tokens adds
            to the sum.

    Example, the number of rounds of all texts:
        `sum_distribution(survival, starts, played, np.ones(...))`
    """
    chances = np.maximum(accepted_distribution(survival), 0.0)
    reach = 8 * int(np.abs(gains).max(initial=0)) + 8
    while True:
        rows = _each_text(chances, starts, played, gains, reach)
        lost = float(np.maximum(1 - rows.sum(1), 0.0).sum())
        if lost <= _NEGLIGIBLE * max(len(rows), 1):
            return _convolved(rows, reach, lost)
        reach *= 2


def _each_text(
    chances: Array,
    starts: NDArray[np.int64],
    played: NDArray[np.bool_],
    gains: NDArray[np.int64],
    reach: int,
) -> Array:
    """(texts, 2 reach + 1): each text's distribution over the sums from -reach to reach; what falls
    outside is lost.
    """
    texts, longest, ends = chances.shape
    most = int(np.abs(gains).max(initial=0))
    width = 2 * reach + 1
    nothing = np.zeros(
        width + 2 * most
    )  # a margin on both sides catches what a gain moves out of the window
    nothing[most + reach] = 1.0
    result = np.tile(nothing, (texts, 1))
    # Of the next starts, the nearest first: by how far a gain moves the window, and the window.
    ahead = [sliding_window_view(result.copy(), width, axis=1)] * (ends + 1)
    for start in range(longest - 1, int(starts.min(initial=longest)) - 1, -1):
        from_here = np.tile(nothing, (texts, 1))
        rows = np.flatnonzero(played[:, start] & (starts <= start))
        total = np.zeros((len(rows), width))
        for taken in range(ends):
            moved = ahead[taken][rows, most - gains[rows, start, taken]]
            moved *= chances[rows, start, taken, None]
            total += moved
        from_here[rows] = 0.0
        from_here[rows, most : -most or None] = total
        result[starts == start] = from_here[starts == start]
        ahead = [sliding_window_view(from_here, width, axis=1), *ahead[:-1]]
    return result[:, most : -most or None]


def _convolved(rows: Array, reach: int, lost: float) -> SumDistribution:
    """The sum over independent texts; negligible ends are cut off and counted as lost."""
    least, total = 0, np.ones(1)
    for row in rows:
        first, chances, cut = _trimmed(row)
        total = np.convolve(total, chances)
        least += first - reach
        lost += cut
        first, total, cut = _trimmed(total)
        least += first
        lost += cut
    return SumDistribution(least=least, chances=total, lost=lost)


def _trimmed(chances: Array) -> tuple[int, Array, float]:
    """Where the part that matters begins, that part, and the mass of the rest."""
    low = int(np.searchsorted(np.cumsum(chances), _TRIM))
    high = len(chances) - int(np.searchsorted(np.cumsum(chances[::-1]), _TRIM))
    kept = chances[low:high]
    return low, kept, float(chances[:low].sum() + chances[high:].sum())
