"""Drafters by the name or folder that they are given by."""

from __future__ import annotations

from pathlib import Path

from ...cases.drafter import DRAFTER_TYPES, AddedSpec, parse_drafter
from ...cases.drafter_extensions import recognised
from ...checkpoints.checkpoint import check_pair, open_checkpoint
from ..loading import LoadedModel, loaded, resolve
from .draft_model import DraftModel, DraftModelType
from .protocol import Drafter, DrafterType

DrafterSource = str | LoadedModel | Drafter
"""A drafter as callers give it: a folder, hub id or name, a loaded draft model, or the drafter."""

DRAFT_MODEL = DraftModelType()


def type_of(name: str) -> tuple[DrafterType, Path | None]:
    """The type of a drafter given as a string, and its folder where it has one.

    Raises RequestError for neither a name, a folder nor a hub id.
    """
    if name in DRAFTER_TYPES.built_in:
        return DRAFTER_TYPES.load(name), None
    drafter = recognised(parse_drafter(name))
    if isinstance(drafter, AddedSpec):
        return drafter.type, drafter.folder
    return DRAFT_MODEL, resolve(name)


def drafter_for(target: LoadedModel, source: DrafterSource, depth: int) -> Drafter:
    """The drafter, loaded where it comes as a string; the pair is not checked."""
    if isinstance(source, Drafter):
        return source
    if isinstance(source, LoadedModel):
        return DraftModel(source, depth)
    kind, folder = type_of(source)
    if source in DRAFTER_TYPES.built_in or kind is DRAFT_MODEL:
        return kind.load(target, folder, depth)
    key = (source, depth)
    if key not in target.added_drafters:
        target.added_drafters[key] = kind.load(target, folder, depth)
    drafter: Drafter = target.added_drafters[key]
    return drafter


def check_drafter(target: LoadedModel, source: DrafterSource, depth: int) -> None:
    """Raises RequestError for a drafter that cannot draft for the target, or not at this depth."""
    if isinstance(source, LoadedModel):
        check_pair(target.checkpoint, source.checkpoint, depth)
    elif isinstance(source, str):
        kind, folder = type_of(source)
        kind.check(target.checkpoint, folder, depth)


def loaded_pair(
    target: str | LoadedModel, source: DrafterSource, depth: int
) -> tuple[LoadedModel, Drafter]:
    """A pair, loaded where it comes as strings.

    The files of both are checked first, so that a drafter that is refused costs no loading of its
    target. Raises RequestError for a pair that does not go together.
    """
    checkpoint = open_checkpoint(resolve(target)) if isinstance(target, str) else target.checkpoint
    if isinstance(source, str):
        kind, folder = type_of(source)
        kind.check(checkpoint, folder, depth)
    model = loaded(target)
    check_drafter(model, source, depth)
    return model, drafter_for(model, source, depth)
