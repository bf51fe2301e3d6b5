"""An EAGLE-3 head: one layer that reads hidden states of several of the target's layers, and then
its own.

Li et al., arXiv 2503.01840. `eagle3_head` states the forward definition,
`checkpoints.eagle3_config` the packagings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...cases.case import Sampling
from ...checkpoints.eagle3_checks import Eagle3Files, check_eagle3, checked_head
from ..loading import LoadedModel
from ..ragged import CachedModel, Rows, Sequences
from .drafts import Drafts
from .eagle3_cache import Eagle3Chain
from .eagle3_forcing import teacher_forced_states
from .eagle3_head import Eagle3Head
from .protocol import DecodingStart, Drafter, DraftScores, Proposal, Report, TextBatch
from .score_arrays import ScoreArrays

check = check_eagle3


def load(target: LoadedModel, folder: Path | None, depth: int) -> Eagle3Drafter:
    assert folder is not None
    return Eagle3Drafter(target, checked_head(target.checkpoint, folder))


class Eagle3Drafter(Drafter):
    """A head that was checked, loaded for its target."""

    takes_processors = True

    def __init__(self, target: LoadedModel, files: Eagle3Files) -> None:
        self.files, self.head = files, self._head_of(files, target)
        self.reads_layers = files.aux_layers

    def _head_of(self, files: Eagle3Files, target: LoadedModel) -> Eagle3Head:
        return Eagle3Head.of(files, target)

    def __str__(self) -> str:
        return str(self.files.checkpoint.folder)

    def proposer(self, start: DecodingStart) -> Eagle3Proposer:
        return Eagle3Proposer(start.target, self.head, start.sampling)

    def score(self, batch: TextBatch) -> DraftScores:
        arrays = ScoreArrays(batch, batch.steps)
        joined = torch.cat([batch.layer_states[number] for number in self.reads_layers], -1)
        steps = teacher_forced_states(self.head, batch.ids, joined, batch.steps)
        for step, state in enumerate(steps):
            first = max(batch.begin, step + 2)
            state = state[:, first - step - 2 :]
            if batch.processors is None:
                arrays.fill(step, first, self.head.draft_logits(state), self.head.drafted)
            else:  # which know the target's tokens
                arrays.fill(step, first, self.head.logits(state))
        return arrays.scores()

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        self.files.checkpoint.hash_now(report)
        return self.files.checkpoint.model_fingerprint


class Eagle3Proposer:
    """Chains of drafts on the states of the target's last verification."""

    def __init__(self, target: CachedModel, head: Eagle3Head, sampling: Sampling) -> None:
        self._target, self._sampling = target, sampling
        self._chain = Eagle3Chain(head)

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        drafts = Drafts(sequences, self._sampling, k, generator)
        self._target.keep(sequences.agreed)
        assert self._target.hidden is not None
        self._chain.begin(sequences, self._target.hidden)
        for _ in range(k):
            drafts.take(self._chain.step())
        return drafts.proposal()

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """The sequences hold all that it needs."""

    def select(self, rows: Rows) -> None:
        self._chain.select(rows)
