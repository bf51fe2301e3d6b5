"""What stored baselines come to under a cost profile: every step's gain, the best k and depth, overall and by category."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

from ..acceptance.counts import Counts
from .costs import CostProfile
from .table import Step, break_even, speedup_table

Cell = tuple[int, int]
"""k and depth."""


@dataclasses.dataclass(frozen=True)
class Advice:
    """One drafter at one temperature under one cost profile."""

    steps: Mapping[int, tuple[Step, ...]]
    """By depth, k growing."""
    needs: Mapping[Cell, float]
    """The conditional acceptance at which one more token would leave the speed-up as it is."""
    has: Mapping[Cell, float]
    """The conditional acceptance that one more token has; only where a larger k was measured."""
    best: Cell
    categories: Mapping[str, tuple[Cell, float, float]]
    """By prompt category: its own best cell, the speed-up there, and at the overall best."""

    @property
    def speedups(self) -> dict[Cell, float]:
        return {(step.k, depth): step.speedup for depth, own in self.steps.items() for step in own}


def advise(counts: Mapping[Cell, Counts], costs: CostProfile, *, own_heads: bool = False) -> Advice:
    """Raises ValueError for no counts or a profile without `target_ms`, CostError for one that does not cover them."""
    steps = dict(_steps(counts, costs, own_heads))
    speedups = {(step.k, depth): step.speedup for depth, own in steps.items() for step in own}
    best = max(sorted(speedups), key=lambda cell: speedups[cell])
    needs, has = {}, {}
    for k, depth in counts:
        one = counts[k, depth]
        if k + 1 in range(min(costs.verify), max(costs.verify) + 1) and one.survival[-1] > 0:
            now, after = (costs.round_ms(drafted, depth, own_heads=own_heads) for drafted in (k, k + 1))
            needs[k, depth] = break_even(one.acceptance_length, float(one.survival[-1]), round_ms=now, next_round_ms=after)
        deeper = min((own for own, its in counts if its == depth and own > k), default=None)
        if deeper is not None and math.isfinite(acceptance := float(counts[deeper, depth].conditional[k])):
            has[k, depth] = acceptance
    return Advice(steps, needs, has, best, dict(_categories(counts, costs, own_heads, best)))


def _steps(counts: Mapping[Cell, Counts], costs: CostProfile, own_heads: bool) -> Iterator[tuple[int, tuple[Step, ...]]]:
    if not counts:
        raise ValueError("no counts to advise on; pass {(k, depth): counts}")
    for depth, cells in itertools.groupby(sorted(counts, key=lambda cell: (cell[1], cell[0])), key=lambda cell: cell[1]):
        own = {k: counts[k, depth] for k, _ in cells}
        lengths = {k: one.acceptance_length for k, one in own.items()}
        errors = {k: one.standard_error for k, one in own.items()}
        known = errors if all(map(math.isfinite, errors.values())) else None
        yield depth, speedup_table(lengths, costs, depth=depth, own_heads=own_heads, errors=known)


def _categories(
    counts: Mapping[Cell, Counts], costs: CostProfile, own_heads: bool, best: Cell
) -> Iterator[tuple[str, tuple[Cell, float, float]]]:
    parts = {cell: {name: own for name, own in one.by_category().items() if own.total_rounds > 0} for cell, one in counts.items()}
    for name in _shared(parts.values()):
        own = dict(_steps({cell: part[name] for cell, part in parts.items()}, costs, own_heads))
        speedups = {(step.k, depth): step.speedup for depth, steps in own.items() for step in steps}
        cell = max(sorted(speedups), key=lambda one: speedups[one])
        yield name, (cell, speedups[cell], speedups[best])


def _shared(parts: Iterable[Mapping[str, Counts]]) -> list[str]:
    """Categories with rounds in every cell."""
    all_parts = list(parts)
    return [name for name in all_parts[0] if all(name in part for part in all_parts)]
