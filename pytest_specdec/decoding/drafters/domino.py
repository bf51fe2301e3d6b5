"""A Domino drafter: a DFlash block whose drafts a GRU corrects by the tokens before each.

`dflash` has the drafter, `block_corrections` the correction.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ...cases.drafter import DOMINO
from ...checkpoints.block_checks import block_drafts, check_block, checked_block
from ..loading import LoadedModel
from .dflash import BlockDrafter

whole_blocks = can_draft_more = True
check = functools.partial(check_block, kind=DOMINO)
most_drafts = functools.partial(block_drafts, kind=DOMINO)


def load(target: LoadedModel, folder: Path | None, depth: int) -> BlockDrafter:
    assert folder is not None
    return BlockDrafter(target, checked_block(target.checkpoint, folder, DOMINO))
