"""The machine-readable report."""

from __future__ import annotations

import json
from collections.abc import Iterable

from .row import Row

SCHEMA = 1


def render(rows: Iterable[Row]) -> str:
    """All cases as one JSON document, sorted by id."""
    cases = sorted(rows, key=lambda row: row["id"])
    return json.dumps({"schema": SCHEMA, "cases": cases}, indent=2, allow_nan=False) + "\n"
