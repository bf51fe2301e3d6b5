"""The bar chart of speed-ups in the terminal, one bar per case."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .curves import Picture, pictures
from .row import ReportRow

_WIDTH = 32


def bars(rows: Iterable[ReportRow]) -> Iterator[str]:
    """Lines of all charts, without colour."""
    for picture in pictures(rows):
        legend = "* is the best; " if picture.drafting_pays else ""
        unit = " of whole texts" if picture.whole_requests else ""
        yield f"speed-up{unit} over k, {picture.title} ({legend}95 % interval)"
        if not picture.whole_requests:
            yield "  each k counts only rounds with room for k drafts, which favours a larger k"
        if not picture.drafting_pays:
            yield "  do not draft: no k beats plain decoding"
        yield from _lines(picture)


def _lines(picture: Picture) -> Iterator[str]:
    longest = max(point.speedup for point in picture.points)
    for depth, points in picture.curves.items():
        for point in points:
            bar = "#" * max(1, round(_WIDTH * point.speedup / longest))
            interval = f"{point.low:.2f} to {point.high:.2f}"
            yield (
                f"  depth {depth}  k {point.k:>3}  {point.speedup:.2f}x  {interval}  "
                f"{bar}{' *' if point.best else ''}"
            )
