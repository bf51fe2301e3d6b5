"""The report for pull requests and job summaries."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from .candidates import comparisons, conclusion, headers, table
from .footnotes import footnotes, marks
from .row import ReportRow
from .table import HEADERS, NOTE, cells, ordered, to_look_at
from .words import Phrases


def render(rows: Iterable[ReportRow], language: str = "en") -> str:
    """One table of all cases, and a line for each that did not simply pass; in English."""
    return "\n".join(_lines(ordered(rows))) + "\n"


def _lines(rows: list[ReportRow]) -> Iterator[str]:
    yield "# Speculative decoding"
    yield ""
    yield from (
        f"| {' | '.join(line)} |"
        for line in (("suite", *HEADERS), ("---", *["---"] * len(HEADERS)))
    )
    marked = marks(rows)
    for row in rows:
        words = (row["suite"], *(word.strip() for word in cells(row, marked)))
        yield f"| {' | '.join(map(_escaped, words))} |"
    yield ""
    yield f"{NOTE}."
    for note in footnotes(rows, Phrases("en")):
        yield from ("", f"{_escaped(note)}.".replace("*", "\\*"))  # a star begins a list
    noteworthy = to_look_at(rows)
    if noteworthy:
        yield ""
    for row in noteworthy:
        changed = f" (changed: {'; '.join(row['changed'])})" if row["changed"] else ""
        yield f"- **{_escaped(row['id'])}** {row['verdict']}: {_escaped(row['reason'] + changed)}"
    notes = dict.fromkeys(note for row in rows for note in row["notes"])
    if notes and not noteworthy:
        yield ""
    yield from (f"- note: {_escaped(note)}" for note in notes)
    yield from _candidates(rows)


def _candidates(rows: list[ReportRow]) -> Iterator[str]:
    """A section for each comparison of candidates."""
    say, shown = Phrases("en"), comparisons(rows)
    for comparison in shown:
        head = headers(comparison, say)
        yield from ("", f"## Candidates of {_escaped(comparison.name)}", "")
        yield f"| {' | '.join(head)} |"
        yield f"| {' | '.join(['---'] * len(head))} |"
        yield from (f"| {' | '.join(map(_escaped, line))} |" for line in table(comparison, say))
        yield from ("", f"{_escaped(conclusion(comparison, say))}.")
    if shown:
        yield from ("", say("candidates_note"))


def _escaped(text: str) -> str:
    """Text escaped for a cell: names come from folders and prompts, and viewers render HTML, links
    and pictures.
    """
    plain = html.escape(text, quote=False).replace("\n", " ")
    return "".join(f"\\{letter}" if letter in "|[`" else letter for letter in plain)
