"""Speed-up over k, one curve a depth: the picture of a pair at one temperature, in any form of
report.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

from .row import ReportRow

_LEAST = 2
"""Different k from which on there is a curve to look at."""


@dataclasses.dataclass(frozen=True)
class Point:
    """A case with a speed-up."""

    k: int
    depth: int
    speedup: float
    low: float
    high: float
    best: bool
    """Faster than the picture's others, and than plain decoding."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """All depths of a pair at one temperature."""

    title: str
    points: tuple[Point, ...]
    whole_requests: bool
    """Whether speed-ups are of whole texts, the same for every k. Else each k counts the rounds
    that leave it room.
    """

    @property
    def curves(self) -> dict[int, tuple[Point, ...]]:
        """The points of each depth, by k."""
        by_depth = itertools.groupby(
            sorted(self.points, key=lambda one: (one.depth, one.k)), key=lambda one: one.depth
        )
        return {depth: tuple(points) for depth, points in by_depth}

    @property
    def drafting_pays(self) -> bool:
        """Whether any point is faster than plain decoding."""
        return any(point.best for point in self.points)

    @property
    def ks(self) -> list[int]:
        return sorted({point.k for point in self.points})


def stem(row: ReportRow) -> str:
    """The case's name without k and depth: drafter, temperature, and rule, filters and engine where
    they are named.
    """
    name = row["id"].rsplit("/", 1)[1]
    return name.replace(f"-k{row['k']}-depth{row['depth']}", "")


def pictures(rows: Iterable[ReportRow]) -> list[Picture]:
    """One picture for each pair and temperature whose speed-up is known at two k or more."""
    known = [row for row in rows if row["speedup"] is not None]
    titled = sorted(known, key=lambda row: (row["suite"], stem(row)))
    found = []
    for (suite, name), group in itertools.groupby(
        titled, key=lambda row: (row["suite"], stem(row))
    ):
        own = list(group)
        whole = has_requests(own)
        top = max(_speedup(row, whole) for row in own)
        points = tuple(_point(row, whole, best=_speedup(row, whole) == top > 1) for row in own)
        if len({point.k for point in points}) >= _LEAST:
            found.append(Picture(title=f"{suite}/{name}", points=points, whole_requests=whole))
    return found


def has_requests(rows: Iterable[ReportRow]) -> bool:
    """Whether every row has the speed-up of whole requests, so that they compare over k."""
    return all(row["request_speedup"] is not None for row in rows)


def _speedup(row: ReportRow, whole: bool) -> float:
    value = row["request_speedup"] if whole else row["speedup"]
    assert value is not None
    return value


def _point(row: ReportRow, whole: bool, *, best: bool) -> Point:
    value = _speedup(row, whole)
    bounds = [
        bound
        for bound in row["request_speedup_interval" if whole else "speedup_interval"]
        if bound is not None
    ]
    low, high = bounds if len(bounds) == 2 else (value, value)
    return Point(row["k"], row["depth"], value, low, high, best)
