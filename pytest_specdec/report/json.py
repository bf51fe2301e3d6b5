"""The machine-readable report."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .candidates import comparisons, conclusion
from .facts import SessionFacts
from .row import HTML_ONLY, ReportRow
from .words import Phrases

SCHEMA = 1


def render(
    rows: Iterable[ReportRow], language: str = "en", facts: SessionFacts | None = None
) -> str:
    """All cases as one JSON document, sorted by id, and the conclusions on candidates; all in
    English, what only .html reports show is left out.
    """
    rows = list(rows)
    cases = [
        {name: value for name, value in row.items() if name not in HTML_ONLY}
        for row in sorted(rows, key=lambda row: row["id"])
    ]
    candidates = [
        {
            "comparison": comparison.name,
            "best": comparison.best["name"],
            "not_below_best": comparison.not_below_best,
            "fell_after": comparison.turn_over,
            "conclusion": conclusion(comparison, Phrases("en")),
        }
        for comparison in comparisons(rows)
    ]
    document: dict[str, Any] = {"schema": SCHEMA, "cases": cases}
    if candidates:
        document["candidates"] = candidates
    if facts is not None:
        document["session"] = facts
    return json.dumps(document, indent=2, allow_nan=False) + "\n"
