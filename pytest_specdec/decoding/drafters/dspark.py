"""A DSpark drafter: a DFlash block whose drafts a Markov head corrects by the token before each.

`dflash` has the drafter, `block_corrections` the correction.
"""

from __future__ import annotations

import functools
from pathlib import Path

from ...cases.drafter import DSPARK
from ...checkpoints.block_checks import block_drafts, check_block, checked_block
from ..loading import LoadedModel
from .dflash import BlockDrafter

whole_blocks = can_draft_more = True
check = functools.partial(check_block, kind=DSPARK)
most_drafts = functools.partial(block_drafts, kind=DSPARK)


def load(target: LoadedModel, folder: Path | None, depth: int) -> BlockDrafter:
    assert folder is not None
    return BlockDrafter(target, checked_block(target.checkpoint, folder, DSPARK))
