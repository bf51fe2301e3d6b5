"""The one family of errors. Every message ends with what the reader can do."""

from __future__ import annotations

from .printable import printable


class SpecdecError(Exception):
    """Root of everything that pytest-specdec raises on purpose. Its message is one line, and fit to print."""

    def __init__(self, message: str) -> None:
        """`message` may quote names, files and answers of others: control characters and credentials do not stay in it."""
        super().__init__(printable(message))


class RequestError(SpecdecError):
    """The request cannot be measured: a wrong option, path, checkpoint or prompt file."""


class BaselineError(SpecdecError):
    """A stored baseline cannot be read: truncated, in merge conflict, of another schema."""


class CostError(SpecdecError):
    """A cost profile cannot be read or says nothing about the k and depth asked for."""


class MeasurementError(SpecdecError):
    """The measurement ended without a usable record, for example without a single round."""
