"""A summary of the measured cells of one pair: means over samples, the best cells, and whether
drafting is worth it. Plain Python.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

EXCELLENT, WORTH_IT = 2.0, 1.0
"""Speed-ups from which on, with 95 % confidence, drafting is called excellent, and worth it."""

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellFigures:
    """The figures of one cell, None where they are unknown."""

    k: int
    depth: int
    acceptance_length: float | None = None
    tokens_per_second: float | None = None
    """Theoretical, of the rounds with room for k drafts."""
    speedup: float | None = None
    """Theoretical, of the same rounds."""
    speedup_interval: Interval | None = None
    """95 %."""
    request_length: float | None = None
    """Tokens per pass of the target over whole texts."""
    request_speedup: float | None = None
    request_interval: Interval | None = None
    """95 %."""
    samples: int = 0
    """Prompts of which the first round was measured."""
    mean_rate: float | None = None
    """Over samples: acceptance rate."""
    mean_accepted: float | None = None
    """Over samples: expected accepted tokens."""


@dataclasses.dataclass(frozen=True)
class GridSummary:
    """All cells of a pair at one temperature."""

    cells: tuple[CellFigures, ...]

    @property
    def samples(self) -> int:
        return sum(cell.samples for cell in self.cells)

    @property
    def whole_requests(self) -> bool:
        """Whether every cell has the speed-up of whole texts, which compares over k. Otherwise each
        k counts only rounds with room for k drafts, and a larger k looks better than it is.
        """
        return all(cell.request_speedup is not None for cell in self.cells)

    def speedup(self, cell: CellFigures) -> float | None:
        """The speed-up by which cells are compared."""
        return cell.request_speedup if self.whole_requests else cell.speedup

    def interval(self, cell: CellFigures) -> Interval | None:
        """The 95 % interval of `speedup`."""
        return cell.request_interval if self.whole_requests else cell.speedup_interval

    def tokens_per_second(self, cell: CellFigures) -> float | None:
        """Theoretical throughput, of whole texts where every cell has their speed-up."""
        rate, length, whole = cell.tokens_per_second, cell.acceptance_length, cell.request_length
        if not self.whole_requests or rate is None or length is None or whole is None:
            return rate
        return rate * whole / length

    @property
    def fastest(self) -> CellFigures | None:
        """The cell of the highest theoretical throughput; None without times."""
        return _highest(self.cells, self.tokens_per_second)

    @property
    def highest_rate(self) -> CellFigures | None:
        """The cell of the highest mean acceptance rate; None without samples."""
        return _highest(self.cells, lambda cell: cell.mean_rate)

    @property
    def highest_accepted(self) -> CellFigures | None:
        """The cell of the most expected accepted tokens; None without samples."""
        return _highest(self.cells, lambda cell: cell.mean_accepted)

    @property
    def drafting_pays(self) -> bool:
        """Whether any cell is faster than plain decoding."""
        return any(speedup is not None and speedup > 1 for speedup in map(self.speedup, self.cells))

    def is_best(self, cell: CellFigures) -> bool:
        """Whether no cell has a higher speed-up, and plain decoding is slower."""
        speedups = [speedup for speedup in map(self.speedup, self.cells) if speedup is not None]
        return self.speedup(cell) == max(speedups, default=0.0) > 1

    @property
    def mean_rate(self) -> float | None:
        """The mean acceptance rate over all samples; None without samples."""
        return _weighted_mean((cell.samples, cell.mean_rate) for cell in self.cells)

    @property
    def mean_accepted(self) -> float | None:
        """The mean of expected accepted tokens over all samples; None without samples."""
        return _weighted_mean((cell.samples, cell.mean_accepted) for cell in self.cells)

    def at_depth(self, depth: int) -> tuple[CellFigures, ...]:
        """The cells of one depth."""
        return tuple(cell for cell in self.cells if cell.depth == depth)

    def mean_rate_at(self, depth: int) -> float | None:
        """`mean_rate` of one depth."""
        return GridSummary(self.at_depth(depth)).mean_rate

    def mean_accepted_at(self, depth: int) -> float | None:
        """`mean_accepted` of one depth."""
        return GridSummary(self.at_depth(depth)).mean_accepted

    def highest_throughput_at(self, depth: int) -> float | None:
        """The highest theoretical throughput of one depth; None without times."""
        best = _highest(self.at_depth(depth), self.tokens_per_second)
        return None if best is None else self.tokens_per_second(best)

    @property
    def assessment(self) -> str | None:
        """`excellent`, `worth`, `slower` or `undecided`: what the interval of the fastest cell's
        speed-up supports; None without an interval.
        """
        bounds = None if self.fastest is None else self.interval(self.fastest)
        if bounds is None:
            return None
        low, high = bounds
        if low >= EXCELLENT:
            return "excellent"
        return "worth" if low > WORTH_IT else "slower" if high < WORTH_IT else "undecided"


def _weighted_mean(parts: Iterable[tuple[int, float | None]]) -> float | None:
    known = [(count, mean) for count, mean in parts if mean is not None]
    total = sum(count for count, _ in known)
    return sum(count * mean for count, mean in known) / total if total else None


def _highest(
    cells: Iterable[CellFigures], value: Callable[[CellFigures], float | None]
) -> CellFigures | None:
    """The cell of the highest known value, the first on a tie."""
    known = [(figure, cell) for cell in cells if (figure := value(cell)) is not None]
    return max(known, key=lambda item: item[0], default=(0.0, None))[1]
