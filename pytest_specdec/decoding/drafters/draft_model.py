"""A separate draft model, with or without MTP heads: a pass of it yields 1 + depth tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...cases.case import Sampling
from ...checkpoints.checkpoint import Checkpoint, check_pair, open_checkpoint
from ..loading import LoadedModel, loaded
from ..mtp_cache import MtpCache
from ..ragged import CachedModel, Rows, Sequences
from .drafts import Drafts, reach_of
from .protocol import DecodingStart, Drafter, DraftScores, Proposal, Report, TextBatch
from .score_arrays import ScoreArrays
from .teacher_forcing import forward, mtp_logits


def check(target: Checkpoint, folder: Path | None, depth: int) -> None:
    assert folder is not None
    check_pair(target, open_checkpoint(folder), depth)


def load(target: LoadedModel, folder: Path | None, depth: int) -> DraftModel:
    return DraftModel(loaded(str(folder)), depth)


class DraftModel(Drafter):
    """A causal language model, loaded, that drafts with its own head and `depth` MTP layers."""

    takes_processors = True

    def __init__(self, model: LoadedModel, depth: int) -> None:
        self.model, self.depth = model, depth
        self.models = (model,)
        self.takes_confidence = self.varies = depth == 0

    def proposer(self, start: DecodingStart) -> DraftModelProposer:
        return DraftModelProposer(self.model, self.depth, start.sampling, start.k, start.confidence)

    def heads(self, steps: int) -> int:
        """The model's own head and its MTP layers: their scores serve every k."""
        return 1 + self.depth

    def score(self, batch: TextBatch) -> DraftScores:
        ids, begin = batch.ids.to(self.model.device), batch.begin
        outputs = forward(self.model, ids, begin, hidden=self.depth > 0)
        arrays = ScoreArrays(batch, 1 + self.depth)
        arrays.fill(0, begin, outputs.logits)
        if self.depth:
            steps = mtp_logits(
                self.model.heads,
                ids,
                outputs.hidden_states[-1],
                begin=begin,
                depth=self.depth,
                steps=self.depth,
            )
            for step, (first, logits) in enumerate(steps, 1):
                arrays.fill(step, first, logits)
        return arrays.scores()

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        checkpoint = self.model.checkpoint
        checkpoint.hash_now(report)
        heads = [checkpoint.heads_fingerprint] if self.depth else []
        return "-".join([checkpoint.model_fingerprint, *heads])

    def prepare(self) -> None:
        if self.depth:
            _ = self.model.heads


class DraftModelProposer:
    """A draft model's passes, each of which yields 1 + depth tokens.

    With a `confidence`, which needs depth 0, a row's drafts end after the first one that the model
    found less likely than this.
    """

    def __init__(
        self, model: LoadedModel, depth: int, sampling: Sampling, k: int, confidence: float = 0.0
    ) -> None:
        reach = reach_of(k, depth)
        # Heads past the last draft of the only pass would never run.
        heads = min(depth, k - 1)
        self._model = CachedModel(model, reach, keeps_hidden=heads > 0)
        self._chain = MtpCache(model.heads, heads, reach) if heads else None
        self._heads, self._depth = heads, depth
        self._sampling, self._confidence = sampling, confidence
        self.thresholds: NDArray[np.floating] | None = None
        """(rows,): the confidence for the next round, by row, in the place of `confidence`."""
        self.confidences: list[tuple[float, ...]] = []
        """Of each row's drafts in the last round, where there were thresholds."""

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        stop = self._confidence if self.thresholds is None else self.thresholds
        drafts = Drafts(sequences, self._sampling, k, generator, stop)
        for first in range(0, k, 1 + self._depth):
            if drafts.stopped:
                break
            ends = sequences.lengths + first
            agreed = ends if first else sequences.agreed
            drafts.take(self._model.feed(sequences, ends, 1, agreed)[:, 0])
            if self._chain is None:
                continue
            assert self._model.hidden is not None
            self._chain.begin(sequences, self._model.hidden, ends - 1, agreed)
            for _ in range(min(self._heads, k - first - 1)):
                drafts.take(self._chain.step())
        self.confidences = drafts.confidences
        return drafts.proposal()

    def pause(self, sequences: Sequences) -> None:
        """Nothing is drafted in the next round: take back what was rejected in the last one, which
        later rounds could not know.
        """
        if self._model.cached is not None:
            self._model.keep(np.minimum(self._model.cached, sequences.agreed))

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """The sequences hold all that it needs."""

    def select(self, rows: Rows) -> None:
        self._model.select(rows)
        if self._chain is not None:
            self._chain.select(rows)
