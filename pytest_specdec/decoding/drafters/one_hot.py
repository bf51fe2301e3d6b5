"""Drafters that propose tokens and no probabilities: each draft is certain, so q is one-hot.

Prompt lookup is one; suffix trees and tables of n-grams are others. Such a drafter is an index of
one text: it reads tokens and proposes what may follow. That is enough to decode and to replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...acceptance.lookup import DraftIndex, index_draft
from ...cases.rules import token_acceptance
from ...common.errors import MeasurementError
from ..ragged import Rows, Sequences
from .protocol import (
    CertainProposal,
    DecodingStart,
    Drafter,
    DraftScores,
    Proposal,
    Report,
    TextBatch,
)


class OneHotDrafter(Drafter):
    """Proposes what `new_index` of a text's tokens proposes.

    `fingerprint` is a hash, or a name with its parameters, of all that decides the proposals.
    """

    takes_processors = True
    varies = True

    def __init__(self, new_index: Callable[[Sequence[int]], DraftIndex], fingerprint: str) -> None:
        self._new_index, self._fingerprint = new_index, fingerprint

    def proposer(self, start: DecodingStart) -> OneHotProposer:
        return OneHotProposer([self._new_index(text) for text in start.texts], start.vocabulary)

    def score(self, batch: TextBatch) -> DraftScores:
        drafts = index_draft(self._new_index, batch.texts, batch.steps, batch.ids.shape[1])
        return certain_scores(drafts.available, drafts.proposed, batch)

    def fingerprint(self, report: Report = lambda what, done, total: None) -> str:
        return self._fingerprint


def certain_scores(
    available: NDArray[np.int64], proposed: NDArray[np.int64], batch: TextBatch
) -> DraftScores:
    """The scores of drafts that are certain: `available` (rows, length), the number proposed at
    each start, and `proposed` (rows, steps, length), the tokens proposed, -1 where there is none.
    """
    ids = batch.ids.cpu().numpy()[:, None]
    log_q = np.where(proposed == ids, 0.0, -np.inf).astype(np.float32)
    begin = batch.begin
    return DraftScores(
        log_q[:, :, begin:],
        available[:, begin:],
        overlaps=_overlaps(proposed[:, :, begin:], batch),
    )


def _overlaps(proposed: NDArray[np.int64], batch: TextBatch) -> dict[str, NDArray[np.float32]]:
    """The target's probability of each proposed token, by rule: if it emits that token, it accepts
    the draft, which is certain.
    """
    if batch.target is None:
        return {}
    exists = (proposed >= 0) & (proposed < batch.target.shape[-1])
    tokens = torch.from_numpy(np.where(exists, proposed, 0)).to(batch.target.device)
    scores = batch.target.gather(-1, tokens.transpose(1, 2))  # (rows, length, steps)
    log_p = scores.transpose(1, 2).double().cpu().numpy()
    overlaps = {}
    for rule in batch.rules:
        accepted = token_acceptance(rule)
        chance = 1.0 if accepted is None else accepted(np.zeros_like(log_p), log_p)
        overlaps[rule] = np.where(exists, np.exp(log_p) * chance, 0.0).astype(np.float32)
    return overlaps


class OneHotProposer:
    """An index for each row of a batch."""

    def __init__(self, indexes: Sequence[DraftIndex], vocabulary: int) -> None:
        self._indexes, self._vocabulary = list(indexes), vocabulary

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        proposals = [self._checked(index.propose(k), k) for index in self._indexes]
        device = sequences.ids.device
        padded = [[*drafts, *([0] * (k - len(drafts)))] for drafts in proposals]
        tokens = torch.tensor(padded, device=device)
        drafted = np.array([len(drafts) for drafts in proposals])
        for step in range(k):
            sequences.put(step, tokens[:, step])
        return CertainProposal(tokens, drafted, self._vocabulary)

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        for index, new in zip(self._indexes, tokens, strict=True):
            index.extend(new)

    def select(self, rows: Rows) -> None:
        self._indexes = [self._indexes[row] for row in rows]

    def _checked(self, drafts: list[int], k: int) -> list[int]:
        """Raises MeasurementError for drafts that the target could not verify."""
        if len(drafts) > k or (drafts and not 0 <= min(drafts) <= max(drafts) < self._vocabulary):
            raise MeasurementError(
                f"a drafter proposed {drafts} where k is {k} and the target has "
                f"{self._vocabulary} tokens; correct its propose(k)"
            )
        return drafts
