"""Drafters by what callers give: a string, a spec, a loaded draft model or a drafter."""

from __future__ import annotations

from pathlib import Path

from ...cases.drafter import (
    DRAFTER_TYPES,
    DrafterSpec,
    DraftModelSpec,
    RegisteredSpec,
    ServedSpec,
    parse_drafter,
)
from ...checkpoints.checkpoint import Stamps, check_pair, open_checkpoint, stamp_of, stamps_of
from ...checkpoints.drafter_folders import recognised
from ..loading import LoadedModel, loaded, resolve
from . import draft_model
from .draft_model import DraftModel
from .protocol import Drafter, DrafterType

DrafterSource = str | DrafterSpec | LoadedModel | Drafter
"""A drafter as callers give it: a folder, hub id or name, the same parsed, a loaded draft model, or
the drafter.
"""


def parsed(source: DrafterSource) -> DrafterSpec | LoadedModel | Drafter:
    """The drafter, parsed where it comes as a string. Raises RequestError for a folder that two
    types recognise.
    """
    return recognised(parse_drafter(source)) if isinstance(source, str) else source


def type_of(drafter: DrafterSpec) -> tuple[DrafterType, Path | None]:
    """A drafter's type, and its folder where it has one.

    Raises RequestError for a model that is neither a folder nor on the hub.
    """
    if isinstance(drafter, DraftModelSpec | ServedSpec):
        return draft_model, resolve(str(drafter))
    if isinstance(drafter, RegisteredSpec):
        return drafter.type, drafter.folder
    return DRAFTER_TYPES.load(str(drafter)), None


def drafts_whole_blocks(drafter: DrafterSpec) -> bool:
    """Whether k decides all of the drafter's drafts, so that each k has scores of its own."""
    return isinstance(drafter, RegisteredSpec) and bool(
        getattr(drafter.type, "whole_blocks", False)
    )


def drafter_for(target: LoadedModel, source: DrafterSource, depth: int) -> Drafter:
    """The drafter, loaded where it comes as a string or spec; the pair is not checked. One of a
    registered type is loaded once for a target, and again where its files have changed.
    """
    source = parsed(source)
    if isinstance(source, Drafter):
        return source
    if isinstance(source, LoadedModel):
        return DraftModel(source, depth)
    drafter_type, folder = type_of(source)
    if not isinstance(source, RegisteredSpec):
        return drafter_type.load(target, folder, depth)
    key, stamps = (source, depth), _stamps(folder)
    before = target.registered_drafters.get(key)
    if before is None or before[0] != stamps:
        target.registered_drafters[key] = stamps, drafter_type.load(target, folder, depth)
    drafter: Drafter = target.registered_drafters[key][1]
    return drafter


def _stamps(folder: Path | None) -> Stamps:
    """Of a drafter's files; a type of another package may have one file in place of a folder."""
    if folder is None:
        return ()
    return stamps_of(folder) if folder.is_dir() else (stamp_of(folder),)


def check_drafter(target: LoadedModel, source: DrafterSource, depth: int) -> None:
    """Raises RequestError for a drafter that cannot draft for the target, or not at this depth."""
    source = parsed(source)
    if isinstance(source, LoadedModel):
        check_pair(target.checkpoint, source.checkpoint, depth)
    elif not isinstance(source, Drafter):
        drafter_type, folder = type_of(source)
        drafter_type.check(target.checkpoint, folder, depth)


def loaded_pair(
    target: str | LoadedModel, source: DrafterSource, depth: int
) -> tuple[LoadedModel, Drafter]:
    """A pair, loaded where it comes as strings.

    The files of both are checked first, so that a drafter that is refused costs no loading of its
    target. Raises RequestError for a pair that does not go together.
    """
    checkpoint = open_checkpoint(resolve(target)) if isinstance(target, str) else target.checkpoint
    source = parsed(source)
    if not isinstance(source, LoadedModel | Drafter):
        drafter_type, folder = type_of(source)
        drafter_type.check(checkpoint, folder, depth)
    model = loaded(target)
    check_drafter(model, source, depth)
    return model, drafter_for(model, source, depth)
