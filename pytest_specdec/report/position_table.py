"""Acceptance by draft position in the terminal, for `-v`: 80 columns, however large k is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ..common.percent import signed_percent
from .layout import aligned, wrapped
from .row import Number, ReportRow
from .table import ordered

_ACROSS = 6
"""Positions in a line of 80 columns."""
_NOTE = (
    "survival = share of rounds that accept drafts 1 to i; conditional = share that accepts draft "
    "i among those that accepted all before it; baseline and change are of conditional"
)


def position_tables(rows: Iterable[ReportRow]) -> Iterator[str]:
    """Lines of all measured cases, without colour."""
    shown = [row for row in ordered(rows) if row["survival"]]
    if shown:
        yield "acceptance by draft position"
    for row in shown:
        yield f"  {row['id']}"
        for first in range(0, len(row["survival"]), _ACROSS):
            yield from (f"    {line}" for line in _lines(row, slice(first, first + _ACROSS)))
    if shown:
        yield from wrapped(_NOTE)


def _lines(row: ReportRow, places: slice) -> Iterator[str]:
    now, survival = row["conditional"][places], row["survival"][places]
    before = (row["baseline"].get("conditional") or [])[places]
    first = places.start + 1
    lines = [
        ["position", *map(str, range(first, first + len(survival)))],
        ["survival", *map(_share, survival)],
        ["conditional", *map(_share, now)],
    ]
    if before:
        lines += [["baseline", *map(_share, before)], ["change", *_changes(now, before)]]
    return aligned(lines, left=(0,))


def _changes(now: Sequence[Number], before: Sequence[Number]) -> Iterator[str]:
    for new, old in zip(now, before, strict=True):
        yield "-" if new is None or not old else signed_percent(new / old - 1)


def _share(value: Number) -> str:
    return "-" if value is None else f"{value:.3f}"
