"""Regression tests for speculative decoders: acceptance, theoretical speed-up, losslessness."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .common.moved import install

if TYPE_CHECKING:
    __version__: str
    from .acceptance.counts import Counts as Counts
    from .baselines.store import load_baseline as load_baseline
    from .cases.texts import Text as Text
    from .cases.texts import texts_from_ids as texts_from_ids
    from .common.errors import SpecdecError as SpecdecError
    from .decoding.decode import Decoded as Decoded
    from .decoding.decode import decode as decode
    from .decoding.loading import LoadedModel as LoadedModel
    from .decoding.loading import load_model as load_model
    from .decoding.measured_policies import policies as policies
    from .decoding.replay import replay as replay
    from .decoding.trainer_callback import SpecdecCallback as SpecdecCallback
    from .decoding.trees.best import best_tree as best_tree
    from .decoding.trees.decode import decode_tree as decode_tree
    from .decoding.trees.replay import replay_tree as replay_tree
    from .lossless.texts.conformance import conformance as conformance
    from .records.record import Record as Record
    from .report.attachments import Attachment as Attachment
    from .speedup.advice import advise as advise
    from .speedup.cost_profile import CostProfile as CostProfile
    from .speedup.formulas import acceptance_length as acceptance_length
    from .speedup.formulas import best_depth as best_depth
    from .speedup.formulas import best_k as best_k
    from .speedup.formulas import theoretical_speedup as theoretical_speedup
    from .speedup.policy_table import policy_table as policy_table
    from .speedup.table import break_even as break_even
    from .speedup.table import speedup_table as speedup_table

_HOMES = {
    "Attachment": "report.attachments",
    "CostProfile": "speedup.cost_profile",
    "Counts": "acceptance.counts",
    "Decoded": "decoding.decode",
    "LoadedModel": "decoding.loading",
    "Record": "records.record",
    "SpecdecCallback": "decoding.trainer_callback",
    "SpecdecError": "common.errors",
    "Text": "cases.texts",
    "advise": "speedup.advice",
    "acceptance_length": "speedup.formulas",
    "best_depth": "speedup.formulas",
    "best_k": "speedup.formulas",
    "best_tree": "decoding.trees.best",
    "break_even": "speedup.table",
    "conformance": "lossless.texts.conformance",
    "decode": "decoding.decode",
    "decode_tree": "decoding.trees.decode",
    "gate": "gate",
    "load_baseline": "baselines.store",
    "load_model": "decoding.loading",
    "policies": "decoding.measured_policies",
    "policy_table": "speedup.policy_table",
    "replay": "decoding.replay",
    "replay_tree": "decoding.trees.replay",
    "speedup_table": "speedup.table",
    "texts_from_ids": "cases.texts",
    "theoretical_speedup": "speedup.formulas",
}
"""Public names and where they live; each is imported on first use, so that none costs the others'
imports.
"""

install()
__all__ = sorted(_HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("pytest-specdec")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .common.errors import naming_extras

    with naming_extras():
        module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return module if name == "gate" else getattr(module, name)
