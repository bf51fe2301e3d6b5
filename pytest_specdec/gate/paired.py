"""Two records of the same prompts, lined up, and the drop of a metric with its paired interval."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

from ..acceptance.counts import Array, Counts
from ..common.student import student_quantile


@dataclasses.dataclass(frozen=True)
class Pair:
    """`before` and `now` hold the same prompts in the same order; each is the sum of its runs."""

    before: Counts
    now: Counts
    runs: tuple[Counts, ...] = ()
    """Both sides' runs, the baseline's first; by default one of each."""
    now_runs: int = 1
    """How many of the runs, the last ones, are `now`."""

    def __post_init__(self) -> None:
        if not self.runs:
            object.__setattr__(self, "runs", (self.before, self.now))

    @classmethod
    def of(cls, before: Counts | Sequence[Counts], now: Counts | Sequence[Counts]) -> Pair:
        """Line up runs by prompt key; prompts that are missing in any of them are left out, and
        categories are today's.
        """
        old, new = ((side,) if isinstance(side, Counts) else tuple(side) for side in (before, now))
        known = set(old[0].prompts).intersection(*(run.prompts for run in (*old[1:], *new)))
        shared = tuple(key for key in old[0].prompts if key in known)
        categories = dict(zip(new[0].prompts, new[0].categories, strict=True))
        names = tuple(categories[key] for key in shared)
        runs = [_lined_up(run, shared, names) for run in (*old, *new)]
        sides = (
            functools.reduce(Counts.merge, runs[: len(old)]),
            functools.reduce(Counts.merge, runs[len(old) :]),
        )
        return cls(*sides, tuple(runs), len(new))

    @property
    def prompts(self) -> int:
        return len(self.before.prompts)

    @property
    def steady(self) -> bool:
        """Whether every round of both sides drafted k tokens."""
        return all(
            np.allclose(side.drafted, side.rounds[:, None]) for side in (self.before, self.now)
        )

    @property
    def length_drop(self) -> float:
        """How much the acceptance length fell, in tokens; negative for a gain."""
        return self.before.acceptance_length - self.now.acceptance_length

    def influence(self) -> Array:
        """(prompts,): each prompt's share in the drop of the pooled acceptance length, in tokens;
        they sum to it.

        The linearised difference of two ratio estimators (the delta method for pooled means over
        clusters): a prompt's accepted tokens beyond what its rounds would have earned at the pooled
        mean.
        """
        return (self.before.residuals - self.now.residuals) + self.length_drop / self.prompts

    def standard_error(self) -> float:
        """Of the drop over prompts like these; infinite with a single prompt."""
        return self._spread(self.influence())

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided Student interval of the drop in tokens, over prompts like these."""
        return self._student(self.length_drop, self.standard_error(), level)

    def relative_error(self, scale: float) -> float:
        """Standard error of the relative drop `length_drop * scale`, over prompts like these;
        infinite with a single prompt. `scale` is 1 over the baseline's value of the metric: of its
        acceptance length, or of its accepted tokens.

        A prompt that is easier than others is so on both sides, so a drop of d moves with
        (1 - d) times what the baseline's rounds earned beyond the mean, not with all of it: the
        delta method for a ratio of two ratio estimators.
        """
        kept = 1 - self.length_drop * scale
        return self._spread((kept * self.before.residuals - self.now.residuals) * scale)

    def relative_interval(self, scale: float, level: float = 0.95) -> tuple[float, float]:
        """Two-sided Student interval of `length_drop * scale`, over prompts like these; see
        `relative_error`.
        """
        return self._student(self.length_drop * scale, self.relative_error(scale), level)

    def _spread(self, influence: Array) -> float:
        """Standard error of a sum of the prompts' shares."""
        if self.prompts < 2:
            return math.inf
        return float(np.std(influence, ddof=1) * math.sqrt(self.prompts))

    def _student(self, center: float, error: float, level: float) -> tuple[float, float]:
        if not math.isfinite(error):
            return (-math.inf, math.inf)
        reach = student_quantile((1 + level) / 2, self.prompts) * error
        return (center - reach, center + reach)


def _lined_up(run: Counts, prompts: tuple[str, ...], categories: tuple[str, ...]) -> Counts:
    """The run's counts of the prompts in their order; the run itself where nothing differs."""
    if run.prompts != prompts:
        at = {key: row for row, key in enumerate(run.prompts)}
        run = run.select([at[key] for key in prompts])
    return run if run.categories == categories else dataclasses.replace(run, categories=categories)


def level_of_each(level: float, intervals: int) -> float:
    """The level of each of several intervals that hold together at `level` (Bonferroni)."""
    return 1 - (1 - level) / max(intervals, 1)
