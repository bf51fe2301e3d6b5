"""Which drafter a case names: one of four kinds, and their names in options, markers, file names
and stored records. The decoder's own drafters are in `decoding.drafters`.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

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


DrafterSpec: TypeAlias = DraftModelSpec | OwnHeadsSpec | PromptLookupSpec | ServedSpec

_NAMED: dict[str, OwnHeadsSpec | PromptLookupSpec | ServedSpec] = {
    str(drafter): drafter for drafter in (OwnHeadsSpec(), PromptLookupSpec(), ServedSpec())
}


def parse_drafter(name: str) -> DrafterSpec:
    """The drafter of a name; `str(drafter)` is the name again. Whatever is not one of the three
    names is a model.
    """
    return _NAMED.get(name) or DraftModelSpec(name)
