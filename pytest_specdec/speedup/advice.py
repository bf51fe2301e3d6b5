"""Speed-ups of stored baselines under a cost profile: the gain of every step, and the best k and
depth, overall and by category.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..acceptance.counts import Counts
from ..cases.drafter import DRAFT
from .cost_profile import CostProfile
from .table import Step, break_even, speedup_table

Cell = tuple[int, int]
"""k and depth."""
_Table = Callable[..., tuple[Step, ...]]
"""`_table` under one profile for one drafter."""


@dataclasses.dataclass(frozen=True)
class Advice:
    """One drafter at one temperature under one cost profile."""

    steps: Mapping[int, tuple[Step, ...]]
    """By depth, k growing."""
    break_even: Mapping[Cell, float]
    """The conditional acceptance of the next token at which drafting it breaks even; above 1 where
    it never pays.
    """
    next_acceptance: Mapping[Cell, float]
    """The measured conditional acceptance of the next token; only where a larger k was measured."""
    best: Cell
    """The fastest cell; plain decoding may be faster still, see `drafting_pays`."""
    categories: Mapping[str, tuple[Cell, float, float]]
    """By prompt category: its own best cell, the speed-up there, and at the overall best."""
    whole_requests: bool
    """Whether lengths are those of whole requests, the same tokens for every k. Else they are
    acceptance lengths, which count only rounds with room for k drafts, so that a larger k looks
    better than it is.
    """

    @property
    def drafting_pays(self) -> bool:
        """Whether the best cell is faster than plain decoding."""
        return self.speedups[self.best] > 1

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the best cell's speed-up; None where the counts have no standard
        error.
        """
        k, depth = self.best
        return next(step.interval for step in self.steps[depth] if step.k == k)

    @property
    def speedups(self) -> dict[Cell, float]:
        return _speedups(self.steps)


def advise(
    counts: Mapping[Cell, Counts],
    costs: CostProfile,
    *,
    drafter: str = DRAFT,
) -> Advice:
    """What to draft, by the lengths of whole requests where every cell has them.

    Raises ValueError for no counts or a profile without `target_ms`, CostError for one that does
    not cover them.
    """
    whole = all(map(math.isfinite, (cell_counts.request_length for cell_counts in counts.values())))
    table = functools.partial(_table, costs=costs, drafter=drafter, whole=whole)
    round_ms = functools.partial(costs.round_ms, drafter=drafter)
    steps = _steps(counts, table)
    best = _best(_speedups(steps))
    break_evens, next_acceptance = {}, {}
    for (k, depth), cell_counts in counts.items():
        if (
            k + 1 in range(min(costs.verify), max(costs.verify) + 1)
            and cell_counts.survival[-1] > 0
        ):
            times = {"round_ms": round_ms(k, depth), "next_round_ms": round_ms(k + 1, depth)}
            break_evens[k, depth] = break_even(
                cell_counts.acceptance_length, float(cell_counts.survival[-1]), **times
            )
        deeper = min(
            (deeper_k for deeper_k, its_depth in counts if its_depth == depth and deeper_k > k),
            default=None,
        )
        if deeper is not None and math.isfinite(
            acceptance := float(counts[deeper, depth].conditional[k])
        ):
            next_acceptance[k, depth] = acceptance
    return Advice(
        steps=steps,
        break_even=break_evens,
        next_acceptance=next_acceptance,
        best=best,
        categories=dict(_categories(counts, table, best)),
        whole_requests=whole,
    )


def _table(counts: Mapping[int, Counts], *, whole: bool, **options: Any) -> tuple[Step, ...]:
    """The steps of one depth from its counts by k."""
    lengths = {
        k: cell_counts.request_length if whole else cell_counts.acceptance_length
        for k, cell_counts in counts.items()
    }
    errors = {
        k: cell_counts.request_error if whole else cell_counts.standard_error
        for k, cell_counts in counts.items()
    }
    return speedup_table(
        lengths, errors=errors if all(map(math.isfinite, errors.values())) else None, **options
    )


def _steps(counts: Mapping[Cell, Counts], table: _Table) -> dict[int, tuple[Step, ...]]:
    if not counts:
        raise ValueError("no counts to advise on; pass {(k, depth): counts}")
    steps = {}
    for depth, cells in itertools.groupby(
        sorted(counts, key=lambda cell: (cell[1], cell[0])), key=lambda cell: cell[1]
    ):
        steps[depth] = table({k: counts[k, depth] for k, _ in cells}, depth=depth)
    return steps


def _categories(
    counts: Mapping[Cell, Counts], table: _Table, best: Cell
) -> Iterator[tuple[str, tuple[Cell, float, float]]]:
    """Of the categories with rounds in every cell."""
    parts = {cell: cell_counts.by_category() for cell, cell_counts in counts.items()}
    for name in next(iter(parts.values())):
        of_category = {
            cell: part[name]
            for cell, part in parts.items()
            if name in part and part[name].total_rounds > 0
        }
        if len(of_category) == len(parts):
            speedups = _speedups(_steps(of_category, table))
            cell = _best(speedups)
            yield name, (cell, speedups[cell], speedups[best])


def _speedups(steps: Mapping[int, tuple[Step, ...]]) -> dict[Cell, float]:
    return {(step.k, depth): step.speedup for depth, of_depth in steps.items() for step in of_depth}


def _best(speedups: Mapping[Cell, float]) -> Cell:
    """The fastest cell, the smaller one on a tie."""
    return max(sorted(speedups), key=lambda cell: speedups[cell])
