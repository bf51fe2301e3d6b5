"""The report as one self-contained HTML page: table, curves of speed-up, what failed and why."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from ..common.printable import printable
from .candidates import Comparison, CurvePoint, comparisons, conclusion, curve, headers, table
from .chapters import Chapter, chapters, stem
from .curves import Picture, Point, pictures
from .footnotes import footnotes, marks
from .row import AttachmentRow, ReportRow
from .table import cells, ordered, to_look_at
from .text import about, cell, conclusions, details, overall
from .words import Phrases

WIDTH, HEIGHT, MARGIN = 520, 260, 36
_HEADERS = (
    "suite",
    "case",
    "k_column",
    "depth_column",
    "rate_column",
    "accepted_column",
    "length_column",
    "speedup_column",
    "baseline_column",
    "change_column",
    "verdict_column",
)
"""Phrases over the columns of the table."""
_LETTER = 8
"""Room for a letter of the names below a curve."""
_COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b9770e", "#566573")


@dataclasses.dataclass(frozen=True)
class Axes:
    """From k and speed-up to coordinates in the chart."""

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
        """Speed-ups to label: multiples of a half, or whole numbers where there are many."""
        step = 0.5 if self.top <= 3 else 1.0
        return [step * number for number in range(int(self.top / step) + 1)]


def render(rows: Iterable[ReportRow], language: str = "en") -> str:
    """The page. Every text is escaped by the template engine."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_specdec", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    sorted_rows, say = ordered(rows), Phrases(language)
    marked = marks(sorted_rows)
    return environment.get_template("page.html.jinja").render(
        say=say,
        headers=[say(name) for name in _HEADERS],
        lines=[((row["suite"], *cells(row, marked)), row["verdict"]) for row in sorted_rows],
        footnotes=footnotes(sorted_rows, say),
        noteworthy=to_look_at(sorted_rows),
        drawings=[_drawing(picture, say) for picture in pictures(sorted_rows)],
        comparisons=[_comparison(comparison, say) for comparison in comparisons(sorted_rows)],
        chapters=[
            _chapter(chapter, say) for chapter in chapters(sorted_rows) if chapter.summary.samples
        ],
        attachments=_attachments(sorted_rows),
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
    )


def _attachments(rows: list[ReportRow]) -> list[dict[str, Any]]:
    """Sections of attachments; those that several cases share are shown once."""
    sections: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        contents = tuple(attachment["content"] for attachment in row["attachments"])
        if contents and contents not in sections:
            sections[contents] = {
                "case": stem(row),
                "attachments": [_shown(attachment) for attachment in row["attachments"]],
            }
    return list(sections.values())


def _shown(attachment: AttachmentRow) -> dict[str, str]:
    """An attachment for the template: kind of element, and its source or, of a text, the text."""
    kind = attachment["media_type"].partition("/")[0]
    source = f"data:{attachment['media_type']};base64,{attachment['content']}"
    if kind == "text":
        source = printable(base64.b64decode(attachment["content"]).decode("utf-8"), keep="\n")
    return {
        "kind": kind,
        "title": attachment["title"],
        "source": source,
        "alternative_text": attachment["alternative_text"],
    }


def _comparison(comparison: Comparison, say: Phrases) -> dict[str, Any]:
    """Candidates compared with each other: their table and, for two and more, their curve."""
    points = curve(comparison)
    return {
        "title": say("candidates_of", comparison=comparison.name),
        "headers": headers(comparison, say),
        "lines": table(comparison, say),
        "conclusion": conclusion(comparison, say),
        "points": _placed_candidates(points, say) if len(points) > 1 else [],
        "marks": _length_marks(points) if len(points) > 1 else [],
    }


def _placed_candidates(points: Sequence[CurvePoint], say: Phrases) -> list[dict[str, Any]]:
    most = max((WIDTH - 2 * MARGIN) // (_LETTER * max(len(point.name) for point in points)), 2)
    every = -(-len(points) // most)
    last = len(points) - 1
    wide = (WIDTH - 2 * MARGIN) / last
    return [
        {
            "x": round(MARGIN + wide * place, 1),
            "y": _length_y(point.length, points),
            "low": _length_y(point.low, points),
            "high": _length_y(point.high, points),
            "best": point.best,
            "fell": point.fell,
            "label": point.name if place % every == 0 else "",
            "anchor": {0: "start", last: "end"}.get(place, "middle"),
            "says": say("candidates_point", name=point.name, length=f"{point.length:.3f}"),
        }
        for place, point in enumerate(points)
    ]


def _length_marks(points: Sequence[CurvePoint]) -> list[tuple[str, float]]:
    """Lengths to label: both ends of the scale and its middle."""
    low, high = _lengths(points)
    return [(f"{mark:.2f}", _length_y(mark, points)) for mark in (low, (low + high) / 2, high)]


def _length_y(length: float, points: Sequence[CurvePoint]) -> float:
    low, high = _lengths(points)
    share = (length - low) / ((high - low) or 1.0)
    return round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * share, 1)


def _lengths(points: Sequence[CurvePoint]) -> tuple[float, float]:
    return min(point.low for point in points), max(point.high for point in points)


def _chapter(chapter: Chapter, say: Phrases) -> dict[str, Any]:
    """One pair's acceptance, in the words of the text report."""
    return {
        "title": say("title", chapter=chapter.name),
        "about": list(about(chapter, say)),
        "overall": list(overall(chapter, say)),
        "conclusions": list(conclusions(chapter, say)),
        "combinations": [(cell(row, say), list(details(row, say))) for row in chapter.rows],
    }


def _drawing(picture: Picture, say: Phrases) -> dict[str, Any]:
    axes = Axes.of(picture)
    curves = [
        {
            "depth": depth,
            "name": say("depth", depth=depth),
            "colour": _COLOURS[number % len(_COLOURS)],
            "line": " ".join(f"{axes.x(point.k)},{axes.y(point.speedup)}" for point in points),
            "points": [_placed(point, axes, say) for point in points],
        }
        for number, (depth, points) in enumerate(picture.curves.items())
    ]
    return {
        "title": picture.title,
        "other_starts": "" if picture.whole_requests else say("other_starts"),
        "do_not_draft": "" if picture.drafting_pays else say("do_not_draft"),
        "curves": curves,
        "one": axes.y(1.0),
        "ks": [(k, axes.x(k)) for k in axes.ks],
        "marks": [(f"{mark:g}", axes.y(mark)) for mark in axes.marks()],
    }


def _placed(point: Point, axes: Axes, say: Phrases) -> dict[str, Any]:
    speedups = {
        name: f"{value:.3f}"
        for name, value in (("value", point.speedup), ("low", point.low), ("high", point.high))
    }
    return {
        "x": axes.x(point.k),
        "y": axes.y(point.speedup),
        "low": axes.y(max(point.low, 0.0)),
        "high": axes.y(point.high),
        "best": point.best,
        "says": say("curves_point", cell=say("cell", k=point.k, depth=point.depth), **speedups),
    }
