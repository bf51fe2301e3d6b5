"""The report for pull requests and job summaries: short enough for a comment on GitHub."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator

from . import axes
from .candidates import comparisons, conclusion, headers, table
from .facts import SessionFacts
from .footnotes import footnotes, marks
from .row import SEVERITY, ReportRow
from .table import HEADERS, NOTE, cells, ordered, to_look_at
from .words import Phrases

LIMIT = 60_000
"""Most bytes of the report: a comment on GitHub holds 65,536 characters."""
_SHARES = {"table": 20_000, "lines": 12_000, "notes": 4_000, "candidates": 6_000, "axes": 5_000}
"""Most bytes of each part; the diagnoses have the rest."""
_LONGEST = 3_000
"""Most characters of one diagnosis, reason or note as it is written."""
_RESERVE = 1_000
"""For the heads of the parts and the note on what is left out."""


def render(
    rows: Iterable[ReportRow], language: str = "en", facts: SessionFacts | None = None
) -> str:
    """One table of all cases, a line for each that did not simply pass, and its diagnosis to be
    unfolded; in English, and never longer than `LIMIT`.
    """
    listed, cut = ordered(rows), Cut()
    # Where not all fit, those with the gravest verdicts stay.
    grave = sorted(listed, key=lambda row: -SEVERITY.index(row["verdict"]))
    parts = [
        _head(listed),
        _table(listed, grave, cut),
        _notes(listed, cut),
        _to_look_at(grave, cut),
        _candidates(listed, cut),
        _axes(listed, cut),
        _session(listed, facts),
    ]
    room = LIMIT - _RESERVE - sum(_size(part) for part in parts)
    parts.insert(4, "\n".join(cut.fitting(map(_diagnosis, _explained(grave)), room, "diagnoses")))
    return "\n\n".join(part for part in [*parts, cut.note()] if part) + "\n"


class Cut:
    """Keeps parts within their bytes, and counts what is left out."""

    def __init__(self) -> None:
        self._left_out: dict[str, int] = {}

    def fitting(self, texts: Iterable[str], most: int, name: str) -> list[str]:
        """The first of the texts that fit into `most` bytes together."""
        kept: list[str] = []
        room = most
        for text in texts:
            room -= _size(text)
            if room < 0:
                self._left_out[name] = self._left_out.get(name, 0) + 1
            else:
                kept.append(text)
        return kept

    def note(self) -> str:
        """What was left out; empty where nothing was."""
        if not self._left_out:
            return ""
        named = ", ".join(f"{number} {name}" for name, number in self._left_out.items())
        return f"Left out to stay short: {named}. Reports in .html and .json have all."


def _size(text: str) -> int:
    return len(text.encode()) + 2


def _head(rows: list[ReportRow]) -> str:
    numbers = Counter(row["verdict"] for row in rows)
    named = [f"{numbers[verdict]} {verdict}" for verdict in reversed(SEVERITY) if numbers[verdict]]
    return "# Speculative decoding" + (f"\n\n**{', '.join(named)}**" if named else "")


def _table(rows: list[ReportRow], grave: list[ReportRow], cut: Cut) -> str:
    marked = marks(rows)
    lines = {row["id"]: _line(row["suite"], *cells(row, marked)) for row in grave}
    kept = set(cut.fitting(lines.values(), _SHARES["table"], "lines of the table"))
    shown = [lines[row["id"]] for row in rows if lines[row["id"]] in kept]
    return "\n".join([*_columns(["suite", *HEADERS]), *shown])


def _columns(names: list[str]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names))]


def _line(*words: str) -> str:
    return f"| {' | '.join(escaped_cell(word.strip()) for word in words)} |"


def _notes(rows: list[ReportRow], cut: Cut) -> str:
    """What the words of the table mean, and notes on the measurement."""
    starred = [  # a star begins a list
        f"{escaped_cell(note)}.".replace("*", "\\*") for note in footnotes(rows, Phrases("en"))
    ]
    return "\n\n".join([f"{NOTE}.", *cut.fitting(starred, _SHARES["notes"], "footnotes")])


def _to_look_at(rows: list[ReportRow], cut: Cut) -> str:
    lines = []
    for row in to_look_at(rows):
        changed = f" (changed: {'; '.join(row['changed'])})" if row["changed"] else ""
        reason = escaped_cell(_short(row["reason"] + changed))
        lines.append(f"- **{escaped_cell(row['id'])}** {row['verdict']}: {reason}")
    notes = dict.fromkeys(note for row in rows for note in row["notes"])
    kept = cut.fitting(lines, _SHARES["lines"], "failures")
    kept += cut.fitting(
        (f"- note: {escaped_cell(_short(note))}" for note in notes), _SHARES["notes"], "notes"
    )
    return "\n".join(kept)


def _explained(rows: list[ReportRow]) -> Iterator[ReportRow]:
    return (row for row in rows if row["diagnosis"])


def _diagnosis(row: ReportRow) -> str:
    """The message of a failed gate, folded; in `pre` no Markdown, mention or link is read."""
    text = html.escape(_short("\n".join(row["diagnosis"])), quote=False)
    name = html.escape(row["id"], quote=False)
    return (
        f"<details><summary>{row['verdict']}: {name}</summary>\n<pre>\n{text}\n</pre>\n</details>\n"
    )


def _candidates(rows: list[ReportRow], cut: Cut) -> str:
    """A section for each comparison of candidates."""
    say, shown = Phrases("en"), comparisons(rows)
    sections = [
        "\n".join(
            [
                f"## Candidates of {escaped_cell(comparison.name)}",
                "",
                *_columns(headers(comparison, say)),
                *(_line(*line) for line in table(comparison, say)),
                "",
                f"{escaped_cell(conclusion(comparison, say))}.",
                "",
            ]
        )
        for comparison in shown
    ]
    kept = cut.fitting(sections, _SHARES["candidates"], "comparisons of candidates")
    return "\n".join([*kept, say("candidates_note")]) if kept else ""


def _axes(rows: list[ReportRow], cut: Cut) -> str:
    """The changes along axes, and what they come to."""
    say, listed = Phrases("en"), axes.axis_rows(rows)
    if not listed:
        return ""
    lines = cut.fitting(
        (_line(*line) for line in axes.table(listed, say)), _SHARES["axes"], "changes along axes"
    )
    note = escaped_cell(say("axes_note")).replace("*", "\\*")
    return "\n".join(
        [
            f"## {say('axes')}",
            "",
            *_columns([say("axes_fixed"), *axes.headers(say)]),
            *(line.replace("*", "\\*") for line in lines),
            "",
            f"{escaped_cell(axes.conclusion(listed, say))}. {note}",
        ]
    )


def _session(rows: list[ReportRow], facts: SessionFacts | None) -> str:
    """Command, date, commit and versions, folded."""
    if facts is None:
        return ""
    environments = dict.fromkeys(
        ", ".join(f"{name} {value}" for name, value in row["environment"].items() if value != "")
        for row in rows
        if row["environment"]
    )
    lines = [
        facts["command"],
        f"{facts['date']}{', commit ' + facts['commit'] if facts['commit'] else ''}",
        f"pytest-specdec {facts['version']}, Python {facts['python']}, {facts['platform']}",
        *environments,
    ]
    text = html.escape(_short("\n".join(lines)), quote=False)
    return f"<details><summary>session</summary>\n<pre>\n{text}\n</pre>\n</details>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def escaped_cell(text: str) -> str:
    """Text escaped for a cell: names come from folders and prompts, and viewers render HTML, links
    and pictures.
    """
    plain = html.escape(text, quote=False).replace("\n", " ")
    return "".join(f"\\{letter}" if letter in "|[`" else letter for letter in plain)
