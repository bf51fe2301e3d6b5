"""What a session found, for terminals, programs, pull requests and browsers. Reports compute nothing."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from .row import Row

_FORMATS = {".json": "json", ".html": "html", ".md": "markdown"}


def render(suffix: str, rows: Iterable[Row]) -> str:
    """The report in the format of a file name's ending."""
    text: str = importlib.import_module(f"{__name__}.{_FORMATS[suffix]}").render(rows)
    return text
