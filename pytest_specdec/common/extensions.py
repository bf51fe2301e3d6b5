"""What other packages add through entry points; read only for names that are not built in."""

from __future__ import annotations

import functools
import re
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .errors import RequestError

DRAFTERS, RULES = "pytest_specdec.drafters", "pytest_specdec.rules"
"""Groups of entry points: types of drafters, and verification rules."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names are parts of test ids and file names."""


@functools.cache
def registered(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, none of them imported.

    Raises RequestError for a name that cannot be used, or that two packages register.
    """
    points: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        if not _NAME.fullmatch(point.name):
            raise RequestError(
                f"the entry point {point.name!r} of {group} ({_origin(point)}) is not a usable "
                "name; use letters, digits, '.', '_' and '-'"
            )
        other = points.setdefault(point.name, point)
        if other.value != point.value:
            raise RequestError(
                f"{_origin(other)} and {_origin(point)} both register {point.name!r} in {group}; "
                "uninstall one of them"
            )
    return points


@functools.cache
def extension(group: str, name: str) -> Any:
    """What a registered name stands for, imported. Raises RequestError where that fails."""
    point = registered(group)[name]
    try:
        return point.load()
    except Exception as error:  # another package's import can fail anyhow
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RequestError(
            f"{name!r} of {_origin(point)} cannot be imported ({reason}); repair or uninstall that "
            "package"
        ) from error


def forget() -> None:
    """Read the entry points again, after packages were added."""
    registered.cache_clear()
    extension.cache_clear()


def _origin(point: EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.dist.name} ({point.value})"
