"""Speed-up over k, one curve per depth: the chart of a pair at one temperature, for all formats of
the report.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

from ..speedup.grid_summary import CellFigures, GridSummary
from .chapters import figures, stem
from .row import ReportRow

_FEWEST_KS = 2
"""Least number of different k for a curve."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A case with a speed-up."""

    k: int
    depth: int
    speedup: float
    low: float
    high: float
    best: bool
    """Faster than the chart's other points, and than plain decoding."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """The top of one depth's curve."""

    depth: int
    best: Point
    falls_from: int | None
    """The next larger k that was measured, at which the speed-up is lower; None where the largest
    is the best.
    """


@dataclasses.dataclass(frozen=True)
class Picture:
    """All depths of a pair at one temperature."""

    title: str
    points: tuple[Point, ...]
    whole_requests: bool
    """Whether speed-ups are of whole texts, the same for every k. Otherwise each k counts only
    rounds with room for k drafts.
    """
    drafting_pays: bool
    """Whether any point is faster than plain decoding."""

    @property
    def curves(self) -> dict[int, tuple[Point, ...]]:
        """The points of each depth, by k."""
        by_depth = itertools.groupby(
            sorted(self.points, key=lambda point: (point.depth, point.k)),
            key=lambda point: point.depth,
        )
        return {depth: tuple(points) for depth, points in by_depth}

    @property
    def ks(self) -> list[int]:
        return sorted({point.k for point in self.points})

    @property
    def turns(self) -> list[Turn]:
        """Where more drafts stop paying, for each depth with two k or more."""
        return [
            Turn(depth, best, next((point.k for point in points if point.k > best.k), None))
            for depth, points in self.curves.items()
            if len(points) >= _FEWEST_KS
            for best in [max(points, key=lambda point: point.speedup)]
        ]


def pictures(rows: Iterable[ReportRow]) -> list[Picture]:
    """One chart for each pair and temperature whose speed-up is known at two k or more."""
    known = [row for row in rows if row["speedup"] is not None]
    titled = sorted(known, key=lambda row: (row["suite"], stem(row)))
    groups = itertools.groupby(titled, key=lambda row: (row["suite"], stem(row)))
    drawn = [_picture(f"{suite}/{name}", group) for (suite, name), group in groups]
    return [picture for picture in drawn if len(picture.ks) >= _FEWEST_KS]


def _picture(title: str, rows: Iterable[ReportRow]) -> Picture:
    summary = GridSummary(tuple(map(figures, rows)))
    return Picture(
        title=title,
        points=tuple(_point(cell, summary) for cell in summary.cells),
        whole_requests=summary.whole_requests,
        drafting_pays=summary.drafting_pays,
    )


def _point(cell: CellFigures, summary: GridSummary) -> Point:
    speedup = summary.speedup(cell)
    assert speedup is not None
    low, high = summary.interval(cell) or (speedup, speedup)
    return Point(
        k=cell.k,
        depth=cell.depth,
        speedup=speedup,
        low=low,
        high=high,
        best=summary.is_best(cell),
    )
