"""The target's own MTP heads: one draft a head, and past their number the last one is reused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...cases.case import Sampling
from ...checkpoints.checkpoint import Checkpoint, check_pair
from ..loading import LoadedModel
from ..mtp_cache import MtpCache
from ..ragged import CachedModel, Rows, Sequences
from .drafts import Drafts, reach_of
from .protocol import DecodingStart, Drafter, DraftScores, Proposal, Report, TextBatch
from .score_arrays import ScoreArrays
from .teacher_forcing import mtp_logits


def check(target: Checkpoint, folder: Path | None, depth: int) -> None:
    check_pair(target, None, depth)


def load(target: LoadedModel, folder: Path | None, depth: int) -> OwnHeadsDrafter:
    return OwnHeadsDrafter(target, depth)


class OwnHeadsDrafter(Drafter):
    """The first `depth` MTP layers of the target."""

    reads_hidden = True
    takes_processors = True

    def __init__(self, target: LoadedModel, depth: int) -> None:
        self.target, self.depth = target, depth

    def proposer(self, start: DecodingStart) -> OwnHeadsProposer:
        return OwnHeadsProposer(start.target, self.depth, start.sampling, start.k)

    def score(self, batch: TextBatch) -> DraftScores:
        assert batch.hidden_states is not None
        arrays = ScoreArrays(batch, batch.steps)
        steps = mtp_logits(
            self.target.heads,
            batch.ids,
            batch.hidden_states[-1],
            begin=batch.begin,
            depth=self.depth,
            steps=batch.steps,
        )
        for step, (first, logits) in enumerate(steps):
            arrays.fill(step, first, logits)
        return arrays.scores()

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        return self.target.checkpoint.heads_fingerprint

    def prepare(self) -> None:
        if self.depth:
            _ = self.target.heads


class OwnHeadsProposer:
    """The heads on the hidden states of the target's last verification; past their number the last
    is reused.
    """

    def __init__(self, target: CachedModel, depth: int, sampling: Sampling, k: int) -> None:
        self._target, self._sampling = target, sampling
        self._chain = MtpCache(target.model.heads, min(depth, k), reach_of(k, depth))

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        drafts = Drafts(sequences, self._sampling, k, generator)
        self._target.keep(sequences.agreed)
        assert self._target.hidden is not None
        self._chain.begin(sequences, self._target.hidden, sequences.lengths - 2, sequences.agreed)
        for _ in range(k):
            drafts.take(self._chain.step())
        return drafts.proposal()

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """The sequences hold all that it needs."""

    def select(self, rows: Rows) -> None:
        self._chain.select(rows)
