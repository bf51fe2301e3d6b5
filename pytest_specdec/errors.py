"""The one family of errors. Every message ends with what the reader can do."""

from __future__ import annotations


class SpecdecError(Exception):
    """Root of everything that pytest-specdec raises on purpose."""


class RequestError(SpecdecError):
    """The request cannot be measured: a wrong option, path, checkpoint or prompt file."""


class UnsupportedError(RequestError):
    """The engine cannot do what is asked at all, however it is asked: a drafter, rule or temperature that it does not have."""


class BaselineError(SpecdecError):
    """A stored baseline cannot be read: truncated, in merge conflict, of another schema."""


class CostError(SpecdecError):
    """A cost profile cannot be read or says nothing about the k and depth asked for."""


class MeasurementError(SpecdecError):
    """The measurement ended without a usable record, for example without a single round."""
