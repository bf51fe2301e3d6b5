"""A P-EAGLE head's folder: an EAGLE-3 head's with a mask token and the state of a mask.

The packagings are those of speculators (`models/peagle`) and SpecForge
(`modeling/draft/peagle.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .config_checks import count_of
from .eagle3_checks import Eagle3Files, read_head

_NAMES = ("mask_token_id", "ptd_token_id", "pard_token")
"""The mask token's field, and what vLLM reads in its place; not both."""


@dataclasses.dataclass(frozen=True)
class PEagleFiles:
    """The files of a head; `checked_peagle` makes it."""

    head: Eagle3Files
    mask_token: int
    """The token that stands for one not yet drafted."""
    most_drafts: int | None
    """Drafts a round that it was trained for; None where config.json does not say."""


def check_peagle(target: Checkpoint, folder: Path | None, depth: int) -> None:
    """Raises RequestError for a head that cannot draft for the target, or not at this depth."""
    if folder is None:
        raise RequestError("p-eagle drafts with a head's files; name its folder: p-eagle:FOLDER")
    if depth:
        raise RequestError(
            f"depth {depth}: a P-EAGLE head has no MTP layers; use --specdec-depth=0"
        )
    checked_peagle(target, folder)


def checked_peagle(target: Checkpoint, folder: Path) -> PEagleFiles:
    """The head in a folder, if it can draft for the target. Raises RequestError as
    `eagle3_checks.checked_head` does, and for a missing mask token.
    """
    files, faults = read_head(target, folder, masked=True)
    if faults:
        raise faults[0]
    mask = _mask_token(files)
    if mask >= files.config.vocabulary:
        raise RequestError(
            f"{files.config.path} says {_NAMES[0]}: {mask} and vocab_size: "
            f"{files.config.vocabulary}, so the mask has no embedding; write the token that the "
            "head was trained with"
        )
    return PEagleFiles(files, mask, _trained_drafts(files.checkpoint.config))


def peagle_drafts(folder: Path) -> int | None:
    """Drafts a round that a head was trained for; None where config.json does not say."""
    return _trained_drafts(Checkpoint(folder).config)


def _trained_drafts(config: Mapping[str, Any]) -> int | None:
    """Drafts a round that speculators trained a head for; None where config.json does not say."""
    outer = config.get("speculators_config")
    methods = outer.get("proposal_methods") if isinstance(outer, Mapping) else None
    counts = [
        count_of(method.get("speculative_tokens"))
        for method in (methods if isinstance(methods, list) else [])
        if isinstance(method, Mapping)
    ]
    return max((count for count in counts if count), default=None)


def _mask_token(files: Eagle3Files) -> int:
    config = files.checkpoint.config
    named = {name: config[name] for name in _NAMES if config.get(name) is not None}
    tokens = {count_of(value) for value in named.values()}
    token = next(iter(tokens)) if len(tokens) == 1 else None
    if token is None or token < 0:
        raise RequestError(
            f"{files.config.path} names the mask token as {str(named)[:80]}, and the head reads "
            f"its embedding for every token not yet drafted; write the one that it was trained "
            f"with as {_NAMES[0]}"
        )
    return token
