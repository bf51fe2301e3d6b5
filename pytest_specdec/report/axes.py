"""Along which axis acceptance moves: the table, and its conclusion in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .layout import WIDTH, aligned, wrapped
from .row import AxisRow, ReportRow
from .words import Phrases

HEADERS = ("axis", "from", "to", "length", "change", "prompts", "verdict")
"""Phrases over the columns of the table."""
_SHORTEST = 8
"""Characters that are left of a value in the terminal's table, however long the others are."""


def axis_rows(rows: Iterable[ReportRow]) -> list[AxisRow]:
    """The changes along axes of a session, by axis and what is held fixed."""
    found = [axis for row in rows for axis in row["axes"]]
    return sorted(found, key=lambda row: (row["axis"], row["comparison"], row["k"]))


def headers(say: Phrases) -> list[str]:
    """The words over the columns, after that of what is held fixed."""
    return [say(f"axes_{name}") for name in HEADERS]


def table(rows: Iterable[AxisRow], say: Phrases) -> list[list[str]]:
    """One line of words for each change, what is held fixed first."""
    return [
        [
            f"{row['comparison']}, k {row['k']}",
            row["axis"],
            row["start"],
            row["end"],
            f"{say.number(row['before'], 3)} → {say.number(row['now'], 3)}",
            _change(row),
            f"{row['prompts']}{'' if row['paired'] else '*'}",
            _result(row, say),
        ]
        for row in rows
    ]


def conclusion(rows: Iterable[AxisRow], say: Phrases) -> str:
    """The axes along which acceptance moves, and those along which no move was shown."""
    listed = list(rows)
    moving = list(dict.fromkeys(row["axis"] for row in listed if row["moves"]))
    still = [axis for axis in dict.fromkeys(row["axis"] for row in listed) if axis not in moving]
    parts = [say("axes_moving", axes=", ".join(moving))] * bool(moving)
    parts += [say("axes_still", axes=", ".join(still))] * bool(still)
    return "; ".join(parts)


def axis_tables(rows: Iterable[ReportRow], language: str = "en") -> Iterator[str]:
    """Lines for the terminal, without colour: a table for each axis and what is held fixed."""
    say, listed = Phrases(language), axis_rows(rows)
    if not listed:
        return
    yield say("axes")
    lines = table(listed, say)
    short = _shortened([line[2:] for line in lines], headers(say)[1:])
    head, *shown = aligned([headers(say)[1:], *short], left=(0, 1, 5))
    yield f"    {head}"
    before = None
    for (fixed, axis, *_), words in zip(lines, shown, strict=True):
        if (fixed, axis) != before:
            before = (fixed, axis)
            yield from wrapped(f"  {axis} of {fixed}", indent="    ")
        yield f"    {words}"
    yield from wrapped(f"  {conclusion(listed, say)}", indent="  ")
    yield from wrapped(say("axes_note"))


def _shortened(lines: list[list[str]], head: list[str]) -> list[list[str]]:
    """Lines whose two values are cut where the table would be wider than a terminal."""
    numbers = [max(map(len, column)) for column in zip(head, *lines, strict=True)][2:]
    room = max((WIDTH - 4 - sum(numbers) - 2 * (len(numbers) + 1)) // 2, _SHORTEST)
    return [[_cut(line[0], room), _cut(line[1], room), *line[2:]] for line in lines]


def _cut(word: str, room: int) -> str:
    """The beginning and, longer, the end of a word: values of one axis often begin alike."""
    if len(word) <= room:
        return word
    begin = (room - 1) // 3
    return f"{word[:begin]}…{word[begin + 1 - room :]}"


def _result(row: AxisRow, say: Phrases) -> str:
    if row["interval"] == [None, None]:
        return say("axes_too_few")
    return say("axes_moves" if row["moves"] else "axes_not_shown")


def _change(row: AxisRow) -> str:
    if row["change"] is None:
        return "-"
    low, high = row["interval"]
    reach = "?" if low is None or high is None else f"{(high - low) / 2:.3f}"
    return f"{row['change'] + 0.0:+.3f} ± {reach}"
