"""Functions that options and markers name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from ..common.errors import RequestError


def imported(path: str, root: Path, option: str, takes: str) -> Callable[..., Any]:
    """What `module:function` names, a module of the root folder or an installed one.

    `option` and `takes` are for the message: whose value it is and what the function is called
    with. Raises RequestError where there is no such function.
    """
    module, _, name = path.partition(":")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as problem:
        raise RequestError(
            f"--specdec-{option}={path}: {problem}; name module:function as Python imports it"
        ) from None
    if not callable(function):
        raise RequestError(f"--specdec-{option}={path} is not a function; name one of {takes}")
    return cast("Callable[..., Any]", function)
