"""Drafters whose type another package adds: recognised by their folder, refused where they are not
used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json
from .drafter import DRAFTER_TYPES, AddedSpec, DrafterSpec, DraftModelSpec

ENGINES = ("replay", "decode")
"""Engines that draft with a type from another package."""


def recognised(drafter: DrafterSpec) -> DrafterSpec:
    """The drafter, as one of another package's type where it is a folder whose config.json such a
    type recognises.

    Raises RequestError where two types recognise it.
    """
    if not isinstance(drafter, DraftModelSpec) or not (folder := Path(drafter.path)).is_dir():
        return drafter
    types = DRAFTER_TYPES.added()
    if not types or (config := _config(folder)) is None:
        return drafter
    names = [name for name in types if DRAFTER_TYPES.load(name).recognises(config)]
    if len(names) > 1:
        raise RequestError(
            f"{folder} is a drafter of the types {' and '.join(names)}; name the one that is "
            f"meant: {names[0]}:{folder}"
        )
    return AddedSpec(names[0], folder.resolve()) if names else drafter


def _config(folder: Path) -> dict[str, Any] | None:
    """A folder's config.json; None where it has none that is a JSON object, which is refused when
    the folder is opened.
    """
    try:
        data = parse_json((folder / "config.json").read_text(encoding="utf-8"), infinities=True)
    except (OSError, UnicodeDecodeError, JsonError):
        return None
    return data if isinstance(data, dict) else None


def check_use(drafter: DrafterSpec, engine: str, *, judged: bool, measured_costs: bool) -> None:
    """Refuse what drafters of other packages' types are not used for. Raises RequestError."""
    if not isinstance(drafter, AddedSpec):
        return
    if engine not in ENGINES:
        raise RequestError(
            f"engine {engine!r} does not draft with {drafter.name!r}, a type of another package; "
            f"use --specdec-engine={' or '.join(ENGINES)}"
        )
    if judged:
        raise RequestError(
            f"--specdec-judged does not go with {drafter.name!r}, a type of another package; leave "
            "one of them out"
        )
    if measured_costs:
        raise RequestError(
            f"--specdec-costs=measure does not time {drafter.name!r}, a type of another package; "
            "name a file of costs"
        )
