"""Prompt lookup: copies what followed the text's last tokens where they stood before."""

from __future__ import annotations

from pathlib import Path

from ...acceptance.lookup import NGRAM, LookupIndex
from ...cases.drafter import LOOKUP
from ...checkpoints.checkpoint import Checkpoint
from ...common.errors import RequestError
from ..loading import LoadedModel
from .one_hot import OneHotDrafter


def check(target: Checkpoint, folder: Path | None, depth: int) -> None:
    if depth:
        raise RequestError(f"depth {depth}: prompt lookup has no MTP layers; use --specdec-depth=0")


def load(target: LoadedModel, folder: Path | None, depth: int) -> OneHotDrafter:
    return OneHotDrafter(LookupIndex, f"{LOOKUP}-{NGRAM}")
