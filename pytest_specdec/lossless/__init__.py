"""Whether the output is still the target's distribution."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import RequestError

if TYPE_CHECKING:
    from .check import Checked as Checked
    from .check import assert_lossless as assert_lossless
    from .contract import assert_q_contract as assert_q_contract
    from .contract import q_contract as q_contract
    from .exact import output_law as output_law
    from .flat import flat_batch as flat_batch

_HOMES = {
    "Checked": "check",
    "assert_lossless": "check",
    "assert_q_contract": "contract",
    "flat_batch": "flat",
    "output_law": "exact",
    "q_contract": "contract",
}
"""Public names and where they live; each is imported on first use."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == __name__.partition(".")[0]:
            raise
        problem = f"{name} needs {missing.name}, which is not installed"
    raise RequestError(f"{problem}; run: pip install 'pytest-specdec[lossless]'")
