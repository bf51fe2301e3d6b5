"""Hydra heads: each drafts one token from a hidden state of the target and the embeddings of the
drafts before it.

Ankner et al., arXiv 2402.05109. `checkpoints.hydra_checks` states the network and the packaging.
"""

from __future__ import annotations

from pathlib import Path

from ...checkpoints.hydra_checks import check_hydra, hydra_heads, read_hydra
from ..loading import LoadedModel
from .residual_heads import ResidualHeadsDrafter

check = check_hydra
most_drafts = hydra_heads


def load(target: LoadedModel, folder: Path | None, depth: int) -> ResidualHeadsDrafter:
    assert folder is not None
    return ResidualHeadsDrafter(target, read_hydra(target.checkpoint, folder))
