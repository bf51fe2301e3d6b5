"""Two records of the same prompts, lined up, and the drop of a metric with its paired interval."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..acceptance.counts import Array, Counts


@dataclasses.dataclass(frozen=True)
class Pair:
    """`before` and `now` hold the same prompts in the same order."""

    before: Counts
    now: Counts

    @classmethod
    def of(cls, before: Counts, now: Counts) -> Pair:
        """Line up by prompt key; prompts that only one side has are left out, and categories are today's."""
        at = {key: row for row, key in enumerate(now.prompts)}
        shared = [(row, at[key]) for row, key in enumerate(before.prompts) if key in at]
        today = now.select([new for _, new in shared])
        return cls(dataclasses.replace(before.select([old for old, _ in shared]), categories=today.categories), today)

    @property
    def prompts(self) -> int:
        return len(self.before.prompts)

    @property
    def length_drop(self) -> float:
        """How much the acceptance length fell, in tokens; negative for a gain."""
        return self.before.acceptance_length - self.now.acceptance_length

    def influence(self) -> Array:
        """(prompts,): each prompt's share in the drop of the pooled acceptance length, in tokens; they sum to it.

        The linearised difference of two ratio estimators (the delta method for pooled means over clusters):
        a prompt's accepted tokens beyond what its rounds would have earned at the pooled mean.
        """
        return (_residuals(self.before) - _residuals(self.now)) + self.length_drop / self.prompts

    def standard_error(self) -> float:
        """Of the drop over prompts like these; infinite with a single prompt."""
        if self.prompts < 2:
            return math.inf
        return float(np.std(self.influence(), ddof=1) * math.sqrt(self.prompts))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided Student interval of the drop in tokens, over prompts like these."""
        error = self.standard_error()
        if not math.isfinite(error):
            return (-math.inf, math.inf)
        from scipy import stats

        reach = float(stats.t.ppf((1 + level) / 2, self.prompts - 1)) * error
        return (self.length_drop - reach, self.length_drop + reach)

    def upper_bound(self, alpha: float) -> float:
        """One-sided bound that the drop in tokens stays below, with confidence 1 - alpha."""
        return self.interval(1 - 2 * alpha)[1]


def _residuals(counts: Counts) -> Array:
    """Per prompt, summing to zero: (accepted - mean * rounds) / all rounds."""
    total = counts.total_rounds
    residuals: Array = (counts.accepted.sum(1) - counts.expected_accepted * counts.rounds) / total
    return residuals
