"""What a session found, for terminals, programs, pull requests, browsers and ears. Reports compute
nothing.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from .row import ReportRow

_FORMATS = {".json": "json", ".html": "html", ".md": "markdown", ".txt": "text", ".wav": "sound"}


def render(suffix: str, rows: Iterable[ReportRow], language: str = "en") -> str | bytes:
    """The report in the format of a file name's ending. Raises RequestError where the session has
    nothing to put into it.
    """
    found: str | bytes = importlib.import_module(f"{__name__}.{_FORMATS[suffix]}").render(
        rows, language
    )
    return found
