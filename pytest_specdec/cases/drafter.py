"""Who drafts: a union of kinds, and the strings that stand for them in options, markers, file names
and stored records.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

from ..common.extensions import DRAFTERS, extension, registered

OWN_HEADS = "mtp"
"""The drafter's name when the target's own MTP heads draft."""
LOOKUP = "prompt-lookup"
"""The drafter's name when drafts are copied from the text itself; no model drafts."""
SERVED = "served"
"""Stands for a model of which only a server has the weights."""


@dataclasses.dataclass(frozen=True)
class DraftModelSpec:
    """A draft model of its own."""

    path: str
    """Checkpoint folder or hub id."""

    def __str__(self) -> str:
        return self.path


@dataclasses.dataclass(frozen=True)
class OwnHeadsSpec:
    """The target's own MTP heads."""

    def __str__(self) -> str:
        return OWN_HEADS


@dataclasses.dataclass(frozen=True)
class PromptLookupSpec:
    """Copies of the text itself; no model drafts."""

    def __str__(self) -> str:
        return LOOKUP


@dataclasses.dataclass(frozen=True)
class ServedSpec:
    """A draft model that only a server has."""

    def __str__(self) -> str:
        return SERVED


@dataclasses.dataclass(frozen=True)
class AddedSpec:
    """A drafter whose type another package adds: `NAME` or `NAME:FOLDER`."""

    name: str
    """The type's entry point in the group `pytest_specdec.drafters`."""
    folder: Path | None
    """None for a drafter without files of its own."""

    def __str__(self) -> str:
        return self.name if self.folder is None else f"{self.name}:{self.folder}"

    @property
    def type(self) -> Any:
        """The `DrafterType` of `decoding.drafters.protocol`, imported now."""
        return extension(DRAFTERS, self.name)


DrafterSpec: TypeAlias = DraftModelSpec | OwnHeadsSpec | PromptLookupSpec | ServedSpec | AddedSpec

_NAMED: dict[str, OwnHeadsSpec | PromptLookupSpec | ServedSpec] = {
    str(drafter): drafter for drafter in (OwnHeadsSpec(), PromptLookupSpec(), ServedSpec())
}


def parse_drafter(name: str) -> DrafterSpec:
    """The drafter of a name; `str(drafter)` is the name again. Whatever is neither one of the three
    names nor of a type that another package adds is a model.

    Entry points are read only for a name that is neither an absolute path nor a hub id
    `owner/name`.
    """
    if (named := _NAMED.get(name)) is not None:
        return named
    kind, _, folder = name.partition(":")
    if "/" in kind or Path(name).is_absolute() or kind not in registered(DRAFTERS):
        return DraftModelSpec(name)
    return AddedSpec(kind, Path(folder) if folder else None)
