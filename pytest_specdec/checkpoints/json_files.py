"""JSON files of a checkpoint, read strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..common.bounded_files import read_text
from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json


def read_json(path: Path, cure: str) -> Any:
    """The file's value. Raises RequestError, which ends with the cure."""
    try:
        return parse_json(read_text(path), infinities=True)
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); {cure}") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not UTF-8; {cure}") from None
    except JsonError as error:
        raise RequestError(f"{path}:{error.line} is not JSON ({error.problem}); {cure}") from None
