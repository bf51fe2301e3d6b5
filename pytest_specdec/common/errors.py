"""The one family of errors. Every message ends with what the reader can do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .printable import printable

EXTRAS = {
    "models": ("torch", "transformers", "safetensors", "tokenizers"),
    "constraints": ("llguidance",),
    "ray": ("ray",),
    "servers": ("prometheus_client", "urllib3"),
    "plots": ("vl_convert", "matplotlib"),
    "parquet": ("pyarrow",),
}
"""What each extra of this project brings."""


class SpecdecError(Exception):
    """Root of everything that pytest-specdec raises on purpose. Its message is one line, and fit to
    print.
    """

    def __init__(self, message: str) -> None:
        """`message` may quote names, files and answers of others: control characters and
        credentials do not stay in it.
        """
        super().__init__(printable(message))


class RequestError(SpecdecError):
    """The request cannot be measured: a wrong option, path, checkpoint or prompt file."""


class UnsupportedError(RequestError):
    """The engine cannot do what is asked at all, however it is asked: a drafter, rule or
    temperature that it does not have.
    """


class BaselineError(SpecdecError):
    """A stored baseline cannot be read: truncated, in merge conflict, of another schema."""


class CostError(SpecdecError):
    """A cost profile cannot be read or says nothing about the k and depth asked for."""


class MeasurementError(SpecdecError):
    """The measurement ended without a usable record, for example without a single round."""


class DraftCountError(MeasurementError):
    """The engine drafts another number of tokens in a round than the k that was named."""


class MissingExtraError(RequestError, ImportError):
    """A package that an extra of this project brings is not installed, or too old."""


@contextlib.contextmanager
def naming_extras() -> Iterator[None]:
    """Turn the failed import of what an extra brings into one message that names it. Raises
    MissingExtraError.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((extra for extra, brought in EXTRAS.items() if package in brought), None)
        if extra is None:
            raise
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        problem = (
            f"{package} is not installed" if absent else f"{package} here is too old ({error})"
        )
        raise MissingExtraError(
            f"{problem}; pip install {'' if absent else '-U '}'pytest-specdec[{extra}]'"
        ) from None
