"""The report as one HTML page that loads nothing: table, curves of speed-up, what failed and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from .curves import Picture, Point, pictures
from .row import Row
from .table import HEADERS, NOTE, cells, ordered, to_look_at

WIDTH, HEIGHT, MARGIN = 520, 260, 36
_COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b9770e", "#566573")


@dataclasses.dataclass(frozen=True)
class Axes:
    """From k and speed-up to places in the drawing."""

    ks: list[int]
    top: float

    @classmethod
    def of(cls, picture: Picture) -> Axes:
        return cls(picture.ks, 1.05 * max(1.0, *(point.high for point in picture.points)))

    def x(self, k: int) -> float:
        first, last = self.ks[0], self.ks[-1]
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (k - first) / (last - first), 1)

    def y(self, speedup: float) -> float:
        return round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * speedup / self.top, 1)

    def marks(self) -> list[float]:
        """Speed-ups to label: halves, or wholes where there are many."""
        step = 0.5 if self.top <= 3 else 1.0
        return [step * number for number in range(int(self.top / step) + 1)]


def render(rows: Iterable[Row]) -> str:
    """The page. Every text is escaped by the template engine."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_specdec", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    own = ordered(rows)
    return environment.get_template("page.html.jinja").render(
        headers=("suite", *HEADERS),
        lines=[((row["suite"], *cells(row)), row["verdict"]) for row in own],
        note=NOTE,
        told=to_look_at(own),
        drawings=[_drawing(picture) for picture in pictures(own)],
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
    )


def _drawing(picture: Picture) -> dict[str, Any]:
    axes = Axes.of(picture)
    curves = [
        {
            "depth": depth,
            "colour": _COLOURS[number % len(_COLOURS)],
            "line": " ".join(f"{axes.x(point.k)},{axes.y(point.speedup)}" for point in points),
            "points": [_placed(point, axes) for point in points],
        }
        for number, (depth, points) in enumerate(picture.curves.items())
    ]
    return {
        "title": picture.title,
        "curves": curves,
        "one": axes.y(1.0),
        "ks": [(k, axes.x(k)) for k in axes.ks],
        "marks": [(f"{mark:g}", axes.y(mark)) for mark in axes.marks()],
    }


def _placed(point: Point, axes: Axes) -> dict[str, Any]:
    return {
        "x": axes.x(point.k),
        "y": axes.y(point.speedup),
        "low": axes.y(max(point.low, 0.0)),
        "high": axes.y(point.high),
        "best": point.best,
        "says": f"k {point.k}, depth {point.depth}: {point.speedup:.3f}x ({point.low:.3f} to {point.high:.3f})",
    }
