"""Whether the emitted tokens still follow the target's distribution."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from ..common.errors import RequestError

if TYPE_CHECKING:
    from .drafters.q_contract import assert_q_contract as assert_q_contract
    from .drafters.q_contract import q_contract as q_contract
    from .samplers import strategies as strategies
    from .samplers.check import LosslessResult as LosslessResult
    from .samplers.check import assert_lossless as assert_lossless
    from .samplers.exact import output_distribution as output_distribution
    from .samplers.flat_batch import flat_batch as flat_batch
    from .samplers.generation import assert_lossless_generation as assert_lossless_generation
    from .samplers.generation import processed_tree as processed_tree
    from .samplers.trees import assert_lossless_tree as assert_lossless_tree
    from .samplers.trees import tree_output_distribution as tree_output_distribution
    from .texts.conformance import conformance as conformance

_HOMES = {
    "LosslessResult": "samplers.check",
    "assert_lossless": "samplers.check",
    "assert_lossless_generation": "samplers.generation",
    "assert_lossless_tree": "samplers.trees",
    "assert_q_contract": "drafters.q_contract",
    "conformance": "texts.conformance",
    "flat_batch": "samplers.flat_batch",
    "output_distribution": "samplers.exact",
    "processed_tree": "samplers.generation",
    "q_contract": "drafters.q_contract",
    "strategies": "samplers.strategies",
    "tree_output_distribution": "samplers.trees",
}
"""Public names and where they live; each is imported on first use."""
_RENAMED = {"Checked": "LosslessResult", "output_law": "output_distribution"}
"""Names of 0.1, and what they are called now."""

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warnings.warn(
            f"{__name__}.{name} is deprecated; use {_RENAMED[name]}",
            DeprecationWarning,
            stacklevel=2,
        )
        name = _RENAMED[name]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
        return module if name == "strategies" else getattr(module, name)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == __name__.partition(".")[0]:
            raise
        problem = f"{name} needs {missing.name}, which is not installed"
    raise RequestError(f"{problem}; run: pip install 'pytest-specdec[lossless]'")
