"""The terminal table: one per suite, one line per case, in 80 columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from ..common.percent import percent, signed_percent
from ..config.candidates import natural_order
from .chapters import stem
from .footnotes import footnotes, mark_of, marks
from .layout import aligned, wrapped
from .row import Number, ReportRow
from .words import Phrases

HEADERS = (
    "case",
    "k",
    "depth",
    "rate",
    "accepted",
    "length",
    "speed-up",
    "baseline",
    "change",
    "verdict",
)
_HIDDEN = ("case", "accepted")
"""Columns that the terminal shows otherwise: a line over the rows of one drafter, and the length
less 1.
"""
NOTE = (
    "rate = accepted / drafted; accepted = drafts accepted per round; length = tokens per round; "
    "speed-up is theoretical and needs costs (--specdec-costs); baseline and change are of the "
    "length"
)


def tables(rows: Iterable[ReportRow], *, wide: bool = False) -> Iterator[str]:
    """Lines of all tables, without colour; with `wide` every column, however long the lines."""
    listed = ordered(rows)
    marked = marks(listed)
    shown = [name for name in HEADERS if name != "case" and (wide or name not in _HIDDEN)]
    for suite, group in itertools.groupby(listed, key=lambda row: row["suite"]):
        yield f"suite {suite}"
        yield from _table(list(group), shown, marked)
    for row in listed:
        if row["verdict"] == "inconclusive":
            yield f"{row['id']} is inconclusive: {row['reason']}"
    yield from (
        f"note: {note}" for note in dict.fromkeys(note for row in listed for note in row["notes"])
    )
    if listed:
        yield from wrapped(NOTE)
    for note in footnotes(listed, Phrases("en")):
        yield from wrapped(note)


def _table(rows: list[ReportRow], shown: list[str], marked: Mapping[str, str]) -> Iterator[str]:
    """A header, and under each drafter's name its rows."""
    words = [dict(zip(HEADERS, cells(row, marked), strict=True)) for row in rows]
    head, *lines = aligned(
        [shown, *([texts[name] for name in shown] for texts in words)], left=(len(shown) - 1,)
    )
    yield f"    {head}"
    for case, group in itertools.groupby(
        zip(words, lines, strict=True), key=lambda pair: pair[0]["case"]
    ):
        yield f"  {case}"
        yield from (f"    {line}" for _, line in group)


def ordered(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Rows as tables list them."""
    return sorted(
        rows,
        key=lambda row: (
            row["suite"],
            _place(row),
            row["temperature"] or 0,
            row["k"],
            row["depth"] or 0,
        ),
    )


def _place(row: ReportRow) -> list[int | str]:
    """Drafters by name, candidates by the numbers in their names."""
    return [stem(row)] if row["candidate"] is None else natural_order(stem(row))


def to_look_at(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Rows whose verdict needs more words than the table has."""
    return [row for row in rows if row["verdict"] not in ("pass", "not judged", "new", "updated")]


def cells(row: ReportRow, marked: Mapping[str, str]) -> tuple[str, ...]:
    """A row's words, one a header; `marked` are the marks of the footnotes."""
    before = row["baseline"].get("acceptance_length")
    return (
        stem(row),
        str(row["k"]),
        "-" if row["depth"] is None else str(row["depth"]),
        _percent(row["acceptance_rate"]),
        _fixed(row["expected_accepted"], 3),
        _fixed(row["acceptance_length"], 3),
        _fixed(row["speedup"], 2, "x"),
        _fixed(before, 3),
        judged_change(row, marked),
        row["verdict"],
    )


def judged_change(row: ReportRow, marked: Mapping[str, str]) -> str:
    """The relative change that decided; with a mark where it is not that of the lengths. All rows
    of a table with marks leave room for one, so that their digits are aligned.
    """
    room = max(map(len, marked.values()), default=0)
    return f"{_change(judged_drop(row))}{mark_of(row['estimate'], marked):<{room}}"


def judged_drop(row: ReportRow) -> Number:
    """The relative drop that decided."""
    return row["drop"] if row["estimate"] is None else row["estimate"]["drop"]


def _percent(value: Number) -> str:
    return "-" if value is None else percent(value)


def _change(drop: Number) -> str:
    return "-" if drop is None else signed_percent(-drop)


def _fixed(value: Number, digits: int, unit: str = "") -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"
