"""The folders of residual heads on the target's last hidden state, Medusa's and Hydra's, by files
alone.

Of all packagings these checks return one form, `ResidualHeadFiles`, in which the tensors of head i
are called `i.j.weight` and `i.j.bias` (residual layer j), `i.skip.weight`, `i.skip.bias` (what
stands for the residual of a first layer that reads more than it returns) and `i.out.weight`,
`i.out.bias` (the output layer).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .config_checks import count_of

MOST_HEADS = 64
"""Heads of a folder at most; published ones have 3 to 10."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualHeadFiles:
    """The files of heads that were checked."""

    checkpoint: Checkpoint
    packaging: str
    """Who packs them so."""
    heads: int
    layers: int
    """Residual layers of each head."""
    width: int
    """Of the target's hidden states."""
    vocabulary: int
    """Number of the target's tokens."""
    names: Mapping[str, str]
    """The folder's name of each tensor."""
    reads_tokens: bool = False
    """Whether head i also reads the embeddings of the i + 1 tokens after its anchor (Hydra)."""
    state_from_end: int = 0
    """Which state is read: 0 the last one after the final norm, n the output of the n-th decoder
    layer before the last.
    """
    scale: float = 1.0
    """What logits are multiplied by."""
    token_map: str | None = None
    """The tensor that lists the target's ids of the tokens that the heads draft; None for all."""


def check_depth(depth: int, kind: str) -> None:
    """Raises RequestError for another depth than 0."""
    if depth:
        raise RequestError(f"depth {depth}: {kind} are no MTP layers; use --specdec-depth=0")


def checked_count(folder: Path, config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The number that config.json gives under the first of `names` that it has.

    Raises RequestError for one that is none from 1 to `MOST_HEADS`.
    """
    name = next((name for name in names if config.get(name) is not None), None)
    if name is None:
        return None
    count = count_of(config[name])
    if count is None or not 1 <= count <= MOST_HEADS:
        raise RequestError(
            f"{folder / 'config.json'} says {name}: {str(config[name])[:40]}, and heads have 1 to "
            f"{MOST_HEADS}; correct it"
        )
    return count


def checked_heads(folder: Path, announced: int | None, held: set[int], field: str) -> int:
    """The number of heads, where config.json announces as many as the tensors are of.

    A loader would leave the others out, or draft with heads that were not trained. Raises
    RequestError.
    """
    numbers = sorted(held)
    if not numbers or numbers != list(range(len(numbers))):
        raise RequestError(
            f"the tensors of {folder} are of the heads {numbers}, which are not numbered from 0 on "
            "without a gap; save all heads"
        )
    if announced != len(numbers):
        said = "does not say so" if announced is None else f"says {field}: {announced}"
        raise RequestError(
            f"the tensors of {folder} are of {len(numbers)} heads and config.json {said}; write "
            f"{field}: {len(numbers)}, or save the folder again"
        )
    return len(numbers)


def numbered(names: Mapping[str, Any], pattern: str) -> set[int]:
    """The heads that tensors are of: the first group of `pattern` in each name that matches."""
    found = (re.match(pattern, name) for name in names)
    return {int(match.group(1)) for match in found if match}
