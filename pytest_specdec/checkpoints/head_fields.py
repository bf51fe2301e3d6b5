"""Fields of a drafter head's config.json that every packaging has, checked one by one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .config_checks import count_of


def verifier_of(config: Mapping[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The name and the classes of the target that speculators names; None and () where none."""
    outer = config.get("speculators_config")
    verifier = outer.get("verifier") if isinstance(outer, Mapping) else None
    if not isinstance(verifier, Mapping):
        return None, ()
    name, classes = verifier.get("name_or_path"), verifier.get("architectures")
    known = [item for item in classes if isinstance(item, str)] if isinstance(classes, list) else []
    return (name if isinstance(name, str) and name else None), tuple(known)


def size_of(path: Path, config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    count = default if value is None else count_of(value)
    if value is None and count is None:
        raise RequestError(f"{path} has no {name}; save the head again")
    if count is None or not 1 <= count < 2**31:
        raise RequestError(
            f"{path} says {name}: {str(value)[:60]}, which no head has; save the head again"
        )
    return count


def optional_size(path: Path, config: Mapping[str, Any], name: str) -> int | None:
    return None if config.get(name) is None else size_of(path, config, name)


def flag_of(path: Path, config: Mapping[str, Any], name: str) -> bool:
    value = config.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise RequestError(
            f"{path} says {name}: {str(value)[:60]}, which is neither true nor false; correct it"
        )
    return value
