"""The machine-readable report."""

from __future__ import annotations

import json
from collections.abc import Iterable

from .row import ReportRow

SCHEMA = 1


def render(rows: Iterable[ReportRow], language: str = "en") -> str:
    """All cases as one JSON document, sorted by id; names are the same in every language,
    attachments are left out.
    """
    cases = [
        {name: value for name, value in row.items() if name != "attachments"}
        for row in sorted(rows, key=lambda row: row["id"])
    ]
    return json.dumps({"schema": SCHEMA, "cases": cases}, indent=2, allow_nan=False) + "\n"
