"""Render a session's rows as a terminal table, JSON, Markdown, HTML or text. Reports compute
nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from .facts import SessionFacts
from .row import ReportRow

_FORMATS = {".json": "json", ".html": "html", ".md": "markdown", ".txt": "text"}


def render(
    suffix: str,
    rows: Iterable[ReportRow],
    language: str = "en",
    facts: SessionFacts | None = None,
) -> str:
    """The report in the format that belongs to a file name's ending."""
    module = importlib.import_module(f"{__name__}.{_FORMATS[suffix]}")
    report: str = module.render(rows, language, facts)
    return report
