"""The report as one self-contained HTML page without scripts: verdicts first, then what failed and
why, curves, every case, and the session.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..common.printable import printable
from . import axes
from .candidates import Comparison, comparisons, conclusion, curve, headers, table
from .case_sections import case_section
from .chapters import Chapter, chapters, stem
from .charts import candidates as candidates_chart
from .charts import costs as costs_chart
from .charts import said
from .charts import speedups as speedups_chart
from .curves import Picture, Point, Turn, pictures
from .drawing import Drawer
from .facts import SessionFacts
from .footnotes import footnotes, marks
from .palette import DARK, LIGHT, SIGNS, declarations
from .row import SEVERITY, AttachmentRow, ReportRow
from .table import cells, ordered, to_look_at
from .text import about, conclusions, overall
from .words import Phrases

_HEADERS = (
    "verdict_column",
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
)
"""Phrases over the columns of the table."""
_TERMS = (
    "round",
    "survival",
    "conditional",
    "rate",
    "accepted",
    "length",
    "speedup",
    "k",
    "depth",
    "interval",
    "verdicts",
)
"""Phrases `term_...` and `definition_...`, in the order of the page."""


def render(
    rows: Iterable[ReportRow], language: str = "en", facts: SessionFacts | None = None
) -> str:
    """The page. Every text is escaped by the template engine; charts need the extra `plots`, and
    without it their numbers stand in tables all the same.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pytest_specdec", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    listed, say, draw = ordered(rows), Phrases(language), Drawer()
    anchors = {row["id"]: f"case-{place}" for place, row in enumerate(listed, 1)}
    grave = sorted(listed, key=lambda row: _gravity(row["verdict"]), reverse=True)
    # The gravest cases are drawn first: where charts are left out, it is those of cases that pass.
    sections = {row["id"]: case_section(row, say, draw) for row in grave}
    template = environment.get_template("page.html.jinja")
    return template.render(
        say=say,
        light=declarations(LIGHT),
        dark=declarations(DARK),
        signs=SIGNS,
        counts=_counts(listed),
        headers=[say(name) for name in _HEADERS],
        lines=_lines(listed, anchors),
        footnotes=footnotes(listed, say),
        noteworthy=[
            {"row": row, "anchor": anchors[row["id"]], **sections[row["id"]]}
            for row in to_look_at(listed)
        ],
        drawings=[_drawing(picture, say, draw) for picture in pictures(listed)],
        comparisons=[_comparison(comparison, say, draw) for comparison in comparisons(listed)],
        axes=_axes(listed, say),
        chapters=[_chapter(chapter, say, draw) for chapter in chapters(listed)],
        cases=[{"row": row, "anchor": anchors[row["id"]], **sections[row["id"]]} for row in listed],
        checks=[(row["id"], check) for row in listed for check in row["checks"]],
        notes=list(dict.fromkeys(note for row in listed for note in row["notes"])),
        attachments=_attachments(listed),
        facts=facts,
        environments=_environments(listed),
        measured=sorted({(row["suite"], row["target"], row["drafter"]) for row in listed}),
        terms=[(say(f"term_{name}"), say(f"definition_{name}")) for name in _TERMS],
        missing_plots=draw.missing,
        left_out=draw.left_out,
    )


def _counts(rows: list[ReportRow]) -> list[tuple[str, int]]:
    """How many cases have each verdict, the gravest first."""
    numbers = Counter(row["verdict"] for row in rows)
    return sorted(numbers.items(), key=lambda pair: _gravity(pair[0]), reverse=True)


def _gravity(verdict: str) -> int:
    return SEVERITY.index(verdict) if verdict in SEVERITY else len(SEVERITY)


def _lines(rows: list[ReportRow], anchors: dict[str, str]) -> list[dict[str, Any]]:
    """The lines of the table; the name of a case leads to its section."""
    marked = marks(rows)
    lines = []
    for row in rows:
        case, *numbers, verdict = cells(row, marked)
        lines.append(
            {
                "verdict": verdict,
                "suite": row["suite"],
                "case": case,
                "anchor": anchors[row["id"]],
                "numbers": numbers,
            }
        )
    return lines


def _environments(rows: list[ReportRow]) -> list[str]:
    """The environments of the cases, each once."""
    known = (row["environment"] for row in rows if row["environment"])
    return list(
        dict.fromkeys(
            ", ".join(f"{name} {value}" for name, value in environment.items() if value != "")
            for environment in known
        )
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


def _comparison(comparison: Comparison, say: Phrases, draw: Drawer) -> dict[str, Any]:
    """Candidates compared with each other: their table and, for two and more, their curve."""
    points, title = curve(comparison), say("candidates_of", comparison=comparison.name)
    return {
        "title": title,
        "headers": headers(comparison, say),
        "lines": table(comparison, say),
        "conclusion": conclusion(comparison, say),
        "chart": draw(candidates_chart(points, say), title) if len(points) > 1 else "",
    }


def _axes(rows: list[ReportRow], say: Phrases) -> dict[str, Any] | None:
    """The changes along axes; None where there are none."""
    listed = axes.axis_rows(rows)
    if not listed:
        return None
    return {
        "headers": [say("axes_fixed"), *axes.headers(say)],
        "lines": axes.table(listed, say),
        "conclusion": axes.conclusion(listed, say),
    }


def _chapter(chapter: Chapter, say: Phrases, draw: Drawer) -> dict[str, Any]:
    """One pair: its acceptance in the words of the text report where there are samples, and what
    its rounds take where times are known.
    """
    timed = [
        row
        for row in chapter.rows
        if None not in (row["draft_ms"], row["verify_ms"], row["target_ms"])
    ]
    samples, pair = bool(chapter.summary.samples), chapter.rows[0]
    title = say("title", chapter=chapter.name)
    return {
        "title": title,
        "pair": say("pair", drafter=Path(pair["drafter"]).name, target=Path(pair["target"]).name),
        "about": list(about(chapter, say)) if samples else [],
        "overall": list(overall(chapter, say)) if samples else [],
        "conclusions": list(conclusions(chapter, say)) if samples else [],
        "costs": [
            (
                say("cell", k=row["k"], depth=row["depth"]),
                say.number(row["draft_ms"], 2),
                say.number(row["verify_ms"], 2),
                say.number(row["target_ms"], 2),
                say.number(row["tokens_per_second"], 1),
            )
            for row in timed
        ],
        "chart": draw(costs_chart(timed, say), f"{say('costs')}: {chapter.name}") if timed else "",
    }


def _drawing(picture: Picture, say: Phrases, draw: Drawer) -> dict[str, Any]:
    """The curves of a pair, and the same numbers as a table of depths by k."""
    cells_of = {(point.k, point.depth): point for point in picture.points}
    return {
        "title": picture.title,
        "other_starts": "" if picture.whole_requests else say("other_starts"),
        "do_not_draft": "" if picture.drafting_pays else say("do_not_draft"),
        "turns": [_turn(turn, say) for turn in picture.turns],
        "ks": picture.ks,
        "lines": [
            (depth, [_cell(cells_of.get((k, depth)), say) for k in picture.ks])
            for depth in picture.curves
        ],
        "chart": draw(speedups_chart(picture, say), f"{say('curves')}: {picture.title}"),
    }


def _turn(turn: Turn, say: Phrases) -> str:
    """The top of a curve in words."""
    top = {"depth": turn.depth, "best": turn.best.k, "value": f"{turn.best.speedup:.2f}"}
    if turn.falls_from is None:
        return say("turn_none", **top)
    return say("turn_down", k=turn.falls_from, **top)


def _cell(point: Point | None, say: Phrases) -> dict[str, Any]:
    """A speed-up in the table of a picture."""
    if point is None:
        return {"value": "-", "best": False, "says": ""}
    return {"value": f"{point.speedup:.2f}x", "best": point.best, "says": said(point, say)}
