"""A DFlash drafter: a small bidirectional model that fills a block of masks in one pass.

Its layers read the target's states of the text so far and the block. `block_head` states the
definition, `checkpoints.block_config` the packagings; DSpark and Domino are the same with a
correction of the logits, see `block_corrections`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ...cases.case import Sampling
from ...cases.drafter import DFLASH
from ...checkpoints.block_checks import (
    BlockFiles,
    block_drafts,
    check_block,
    checked_block,
)
from ..loading import LoadedModel
from ..ragged import CachedModel, Rows, Sequences
from .block_cache import BlockCache
from .block_forcing import teacher_forced_blocks
from .block_head import BlockHead
from .drafts import Drafts
from .protocol import DecodingStart, Drafter, DraftScores, Proposal, Report, TextBatch
from .score_arrays import ScoreArrays

whole_blocks = can_draft_more = True
check = functools.partial(check_block, kind=DFLASH)
most_drafts = functools.partial(block_drafts, kind=DFLASH)


def load(target: LoadedModel, folder: Path | None, depth: int) -> BlockDrafter:
    assert folder is not None
    return BlockDrafter(target, checked_block(target.checkpoint, folder, DFLASH))


class BlockDrafter(Drafter):
    """A block drafter that was checked, loaded for its target."""

    takes_processors = True
    whole_blocks = True
    can_draft_more = True

    def __init__(self, target: LoadedModel, files: BlockFiles) -> None:
        self.files, self.head = files, BlockHead(files, target)
        self.reads_layers, self.most_drafts = files.states, files.config.most_drafts

    def __str__(self) -> str:
        return str(self.files.checkpoint.folder)

    def proposer(self, start: DecodingStart) -> BlockProposer:
        return BlockProposer(start.target, self.head, start.sampling, start.k)

    def score(self, batch: TextBatch) -> DraftScores:
        """The blocks have `batch.steps` drafts: the scores are those of this k alone."""
        arrays = ScoreArrays(batch, batch.steps)
        for step, place, logits in block_logits(self.head, batch, self.reads_layers):
            if batch.processors is None:
                arrays.fill(step, place, logits, self.head.drafted)
            else:  # which know the target's tokens
                arrays.fill(step, place, self.head.whole_logits(logits))
        return arrays.scores()

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        self.files.checkpoint.hash_now(report)
        return self.files.checkpoint.model_fingerprint


def block_logits(
    head: BlockHead, batch: TextBatch, states: Sequence[int]
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Each draft step of blocks with `batch.steps` drafts, the first position that it scores, and
    its logits (texts, positions, drafted tokens) from there on; `states` are those of the target
    that the drafter reads.
    """
    first, length = max(batch.begin - 1, 1), batch.ids.shape[1]
    if first > length - 2:
        return
    joined = torch.cat([batch.layer_states[number] for number in states], -1).to(batch.ids.device)
    anchors = torch.arange(first, length - 1, device=batch.ids.device)
    blocks = teacher_forced_blocks(head, batch.ids, joined, batch.steps, anchors)
    carried: torch.Tensor | None = None
    for step in range(min(batch.steps, length - 1 - first)):
        starts = length - 1 - first - step  # those whose draft lies in the text
        state = blocks[:, :starts, head.config.first_row + step]
        before = batch.ids[:, first + step : first + step + starts]
        carried = None if carried is None else carried[:, :starts]
        logits, carried = head.draft_logits(step, state, before, carried)
        yield step, first + 1 + step, logits


class BlockProposer:
    """One block a round, on the states of the target's last verification."""

    def __init__(self, target: CachedModel, head: BlockHead, sampling: Sampling, k: int) -> None:
        """Blocks have k drafts in every round, of which the last round of a text may use fewer."""
        self._target, self._head, self._sampling = target, head, sampling
        self._cache = BlockCache(head, k)

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        drafts = Drafts(sequences, self._sampling, k, generator)
        self._target.keep(sequences.agreed)
        assert self._target.hidden is not None
        block = self._cache.block(sequences, self._target.hidden)
        carried: torch.Tensor | None = None
        for step in range(k):
            before, _ = sequences.window(sequences.lengths + step, 1)
            state = block[:, self._head.config.first_row + step]
            logits, carried = self._head.draft_logits(step, state, before[:, 0], carried)
            drafts.take(self._head.whole_logits(logits))
        return drafts.proposal()

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """The sequences hold all that it needs."""

    def select(self, rows: Rows) -> None:
        self._cache.select(rows)
