"""Who drafts: a union of kinds, parsed once from the strings of options and markers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeAlias

from ..common.errors import naming_extras
from ..common.extensions import Registry

DRAFT = "draft"
"""The name of a draft model in records and cost profiles, whichever it is."""
OWN_HEADS = "mtp"
"""The drafter's name when the target's own MTP heads draft."""
LOOKUP = "prompt-lookup"
"""The drafter's name when drafts are copied from the text itself; no model drafts."""
EAGLE3 = "eagle3"
"""The name of the type of EAGLE-3 heads."""
MEDUSA, HYDRA = "medusa", "hydra"
"""The names of the types of Medusa and Hydra heads."""
PEAGLE, DFLASH, DSPARK, DOMINO = "p-eagle", "dflash", "dspark", "domino"
"""The names of the types that draft all tokens of a round in one pass."""
PARD = "pard"
"""The name of the type of draft models that draft on mask tokens."""
TLI = "tli"
"""The name of the type of draft models with another tokenizer."""
SUFFIX = "suffix"
"""The name of the type of suffix decoding, a drafter without a model."""
WITHOUT_DEPTH = (EAGLE3, MEDUSA, HYDRA, PEAGLE, DFLASH, DSPARK, DOMINO, PARD, TLI, SUFFIX)
"""Types whose drafters have no MTP layers, and so depth 0 alone."""
SERVED = "served"
"""Stands for a model of which only a server has the weights."""

_PACKAGE = "pytest_specdec.decoding.drafters"
DRAFTER_TYPES = Registry(
    "pytest_specdec.drafters",
    "type of drafter",
    {
        OWN_HEADS: f"{_PACKAGE}.own_heads",
        LOOKUP: f"{_PACKAGE}.prompt_lookup",
        EAGLE3: f"{_PACKAGE}.eagle3",
        MEDUSA: f"{_PACKAGE}.medusa",
        HYDRA: f"{_PACKAGE}.hydra",
        PEAGLE: f"{_PACKAGE}.peagle",
        DFLASH: f"{_PACKAGE}.dflash",
        DSPARK: f"{_PACKAGE}.dspark",
        DOMINO: f"{_PACKAGE}.domino",
        PARD: f"{_PACKAGE}.pard",
        TLI: f"{_PACKAGE}.tli",
        SUFFIX: f"{_PACKAGE}.suffix",
    },
    reserved=(DRAFT, SERVED),
)
"""Types of drafters by name, one line for each file of `decoding.drafters`; each is a `DrafterType`
of its `protocol`. Draft models have no line: whatever folder no type claims holds one.
"""


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
class RegisteredSpec:
    """A drafter of a registered type, this package's own or another package's: `NAME` or
    `NAME:FOLDER`.
    """

    name: str
    """The type's name in `DRAFTER_TYPES`."""
    folder: Path | None
    """None for a drafter without files of its own."""

    def __str__(self) -> str:
        return self.name if self.folder is None else f"{self.name}:{self.folder}"

    @property
    def type(self) -> Any:
        """The `DrafterType` of `decoding.drafters.protocol`, imported now."""
        with naming_extras():
            return DRAFTER_TYPES.load(self.name)


DrafterSpec: TypeAlias = (
    DraftModelSpec | OwnHeadsSpec | PromptLookupSpec | ServedSpec | RegisteredSpec
)

_NAMED: dict[str, OwnHeadsSpec | PromptLookupSpec | ServedSpec] = {
    str(drafter): drafter for drafter in (OwnHeadsSpec(), PromptLookupSpec(), ServedSpec())
}


def kind_of(drafter: DrafterSpec) -> str:
    """The drafter as records and cost profiles name it: `draft` for a draft model, else the name of
    its type.
    """
    if isinstance(drafter, DraftModelSpec | ServedSpec):
        return DRAFT
    return drafter.name if isinstance(drafter, RegisteredSpec) else str(drafter)


def parse_drafter(name: str) -> DrafterSpec:
    """The drafter of a name; `str(drafter)` is the name again. Whatever is neither one of the three
    names nor of a registered type is a model.

    Entry points are read only for a name that is neither an absolute path nor a hub id
    `owner/name`.
    """
    if (named := _NAMED.get(name)) is not None:
        return named
    type_name, _, folder = name.partition(":")
    if "/" in type_name or Path(name).is_absolute() or type_name in _NAMED:
        return DraftModelSpec(name)
    if type_name not in DRAFTER_TYPES:
        return DraftModelSpec(name)
    return RegisteredSpec(type_name, Path(folder) if folder else None)
