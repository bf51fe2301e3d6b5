"""Adapters by the engine's name on the command line: those of this package and those that other
packages register as entry points. An adapter and its engine are imported only when they are
requested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from ...common.errors import MissingExtraError, RequestError, SpecdecError, naming_extras
from ...config.engines import ADAPTERS, ENGINES
from ..adapter_api import Adapter, Capabilities, EngineSetup

Factory = Callable[[EngineSetup], Adapter]

_MEMBERS = ("version", "run", "close")
"""What an adapter must have besides its capabilities."""


def make_adapter(name: str, setup: EngineSetup) -> Adapter:
    """An engine's adapter. Raises RequestError where it or its package is missing or broken, or the
    URL does not fit.
    """
    adapter = _built_in(name, setup) if name in ADAPTERS else _added(name, setup)
    _check_url(name, adapter.capabilities.url, setup.url)
    return adapter


def _built_in(name: str, setup: EngineSetup) -> Adapter:
    try:
        with naming_extras():
            factory = ENGINES.load(name)
    except MissingExtraError as error:
        raise RequestError(
            f"--specdec-engine={name}: {error}, or record a trace elsewhere"
        ) from None
    except ImportError as error:
        missing = error.name or str(error)
        raise RequestError(
            f"--specdec-engine={name} needs {missing}, which is not installed; install it, or "
            "record a trace elsewhere and read it with --specdec-engine=trace"
        ) from None
    return cast("Factory", factory)(setup)


def _added(name: str, setup: EngineSetup) -> Adapter:
    """The adapter of another package. Any fault in it becomes one message that names the
    package.
    """
    factory: Any = ENGINES.load(name)
    try:
        adapter = factory(setup)
    except SpecdecError:
        raise
    except Exception as error:
        raise ENGINES.fault(name, f"cannot be created ({type(error).__name__}: {error})") from error
    missing = [member for member in _MEMBERS if not callable(getattr(adapter, member, None))]
    if not isinstance(getattr(adapter, "capabilities", None), Capabilities):
        missing.insert(0, "capabilities")
    if missing:
        raise ENGINES.fault(name, f"has no {', '.join(missing)}, so it is not an Adapter")
    return cast("Adapter", adapter)


def _check_url(name: str, wanted: str, url: str | None) -> None:
    if wanted == "needed" and not url:
        raise RequestError(
            f"--specdec-engine={name} needs an address or a file; name it: --specdec-url="
        )
    if wanted == "refused" and url:
        raise RequestError(f"--specdec-engine={name} runs in this process; leave --specdec-url out")
