"""Documented modules of 0.1 under their old dotted names: they still import, with a
DeprecationWarning.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple


class Moved(NamedTuple):
    """Where a module is now."""

    module: str
    names: Mapping[str, str] = MappingProxyType({})
    """Old names in it, and what they are called now."""


MOVED = {
    "acceptance.case": Moved("cases.case", {"Judged": "JudgedRange"}),
    "acceptance.prompts": Moved("cases.prompts"),
    "acceptance.texts": Moved("cases.texts"),
    "engines.identities": Moved("engines.counting.checks"),
    "engines.normalise": Moved("engines.counting.normalise"),
    "engines.reported": Moved(
        "engines.adapter_api",
        {
            "Abilities": "Capabilities",
            "Asked": "PromptRequest",
            "Manner": "CountingConvention",
            "Request": "GenerationRequest",
            "Setup": "EngineSetup",
        },
    ),
    "engines.trace": Moved("engines.adapters.trace"),
    "lossless.conformance": Moved("lossless.texts.conformance"),
    "lossless.strategies": Moved("lossless.samplers.strategies", {"laws": "distributions"}),
    "speedup.costs": Moved("speedup.cost_profile"),
    "speedup.model": Moved("speedup.formulas"),
}
"""By the old name, below the package."""
_PACKAGE = __name__.partition(".")[0]


class _Loader:
    """Makes a module that hands every name on to the new one."""

    def __init__(self, name: str) -> None:
        self._moved = MOVED[name]

    def create_module(self, spec: ModuleSpec) -> None:
        """The default module."""

    def exec_module(self, module: ModuleType) -> None:
        new = importlib.import_module(f"{_PACKAGE}.{self._moved.module}")
        names = self._moved.names

        def lookup(name: str) -> Any:
            return getattr(new, names.get(name, name))

        module.__getattr__ = lookup  # type: ignore[method-assign]
        function = vars(new).get(module.__name__.rpartition(".")[2])
        if callable(function):
            # The import binds the old module to its parent, over a public function of this name.
            module.__class__ = type("", (ModuleType,), {"__call__": staticmethod(function)})


class MovedModules:
    """A finder that is asked last, so it costs nothing until an old name is imported."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        if package != _PACKAGE or old not in MOVED:
            return None
        new = f"{_PACKAGE}.{MOVED[old].module}"
        warnings.warn(
            f"{name} is deprecated; import {new}, or the public names of {_PACKAGE}, "
            f"{_PACKAGE}.lossless and {_PACKAGE}.adapters",
            DeprecationWarning,
            stacklevel=2,
        )
        return ModuleSpec(name, _Loader(old))  # type: ignore[arg-type]


def install() -> None:
    """Add the finder, once a process."""
    if MovedModules not in sys.meta_path:
        sys.meta_path.append(MovedModules)
