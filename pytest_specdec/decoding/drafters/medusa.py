"""Medusa heads: each drafts one token from the target's last hidden state, whatever the drafts
before it.

Cai et al., arXiv 2401.10774. `checkpoints.medusa_checks` states the network and the packagings.
"""

from __future__ import annotations

from pathlib import Path

from ...checkpoints.medusa_checks import check_medusa, medusa_heads, read_medusa
from ..loading import LoadedModel
from .residual_heads import ResidualHeadsDrafter

check = check_medusa
most_drafts = medusa_heads


def load(target: LoadedModel, folder: Path | None, depth: int) -> ResidualHeadsDrafter:
    assert folder is not None
    return ResidualHeadsDrafter(target, read_medusa(target.checkpoint, folder))
