"""Drafters behind one protocol: each proposes k tokens a row and reports the distributions it drew
them from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..acceptance.lookup import LookupIndex
from ..cases.case import Sampling
from .distributions import confidence, filtered, log_exponentials, one_hot
from .loading import LoadedModel
from .mtp_cache import MtpCache
from .ragged import CachedModel, Rows, Sequences


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Drafts of one round."""

    tokens: torch.Tensor
    """(rows, k); anything from where a row has no more."""
    distributions: torch.Tensor
    """(rows, k + 1, vocabulary): what each draft was drawn from, zero from where a row has no
    more.
    """
    drafted: Rows
    """(rows,): tokens proposed."""


class Drafter(Protocol):
    """Proposes drafts behind the emitted tokens of a batch."""

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        """Draft k tokens a row, written behind the emitted ones."""

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """Hear what each row emitted in the round."""

    def select(self, rows: Rows) -> None:
        """Keep some rows: the others have ended."""


class ModelDrafter:
    """A draft model, with or without MTP heads: a pass of it yields 1 + depth tokens.

    With a `confidence`, which needs depth 0, a row's drafts end behind the first that it found less
    likely than this.
    """

    def __init__(
        self, model: LoadedModel, depth: int, sampling: Sampling, k: int, confidence: float = 0.0
    ) -> None:
        reach = reach_of(k, depth)
        # Heads behind the last draft of the only pass would never run.
        heads = min(depth, k - 1)
        self._model = CachedModel(model, reach, keeps_hidden=heads > 0)
        self._chain = MtpCache(model.heads, heads, reach) if heads else None
        self._heads, self._depth, self._sampling, self._confidence = (
            heads,
            depth,
            sampling,
            confidence,
        )

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        drafts = _Drafts(sequences, self._sampling, k, generator, self._confidence)
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
        return drafts.proposal()

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """The sequences hold all that it needs."""

    def select(self, rows: Rows) -> None:
        self._model.select(rows)
        if self._chain is not None:
            self._chain.select(rows)


class NoDrafter:
    """Plain decoding: a round is the target's step."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        rows, device = len(sequences.lengths), sequences.ids.device
        tokens = torch.zeros(rows, 0, dtype=torch.long, device=device)
        distributions = torch.zeros((), device=device).expand(
            rows, 1, self._vocabulary
        )  # holds one number: steps are timed
        return Proposal(tokens, distributions, np.zeros(rows, dtype=np.int64))

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """There is nothing to know."""

    def select(self, rows: Rows) -> None:
        """There is nothing to keep."""


class OwnHeads:
    """The target's own MTP heads on the hidden states of its last verification; past their number
    the last is reused.
    """

    def __init__(self, target: CachedModel, depth: int, sampling: Sampling, k: int) -> None:
        self._target, self._sampling = target, sampling
        self._chain = MtpCache(target.model.heads, min(depth, k), reach_of(k, depth))

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        drafts = _Drafts(sequences, self._sampling, k, generator)
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


class PromptLookup:
    """Copies what followed the text's last tokens earlier; the drafts are certain, so q is
    one-hot.
    """

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary: int) -> None:
        self._indexes = [LookupIndex(text) for text in texts]
        self._vocabulary = vocabulary

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        found = [index.propose(k) for index in self._indexes]
        device = sequences.ids.device
        tokens = torch.tensor([[*own, *([0] * (k - len(own)))] for own in found], device=device)
        drafted = np.array([len(own) for own in found])
        for step in range(k):
            sequences.put(step, tokens[:, step])
        distributions = torch.zeros(len(found), k + 1, self._vocabulary, device=device)
        proposed = torch.from_numpy(np.arange(k) < drafted[:, None]).to(device)
        distributions[:, :-1].scatter_(2, tokens[..., None], proposed[..., None].float())
        return Proposal(tokens, distributions, drafted)

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        for index, own in zip(self._indexes, tokens, strict=True):
            index.extend(own)

    def select(self, rows: Rows) -> None:
        self._indexes = [self._indexes[row] for row in rows]


class _Drafts:
    """The drafts of a round as they are drawn, each written into the sequences for the next step to
    read.
    """

    def __init__(
        self,
        sequences: Sequences,
        sampling: Sampling,
        k: int,
        generator: torch.Generator | None,
        confidence: float = 0.0,
    ) -> None:
        self._sequences, self._sampling, self._k, self._generator = (
            sequences,
            sampling,
            k,
            generator,
        )
        self._tokens: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []
        self._clocks: torch.Tensor | None = None
        self._confidence = confidence
        self._sure = np.ones(len(sequences.lengths), dtype=bool)
        self._steps: list[NDArray[np.bool_]] = []
        """Which rows proposed each draft, where a confidence stops some."""

    @property
    def stopped(self) -> bool:
        """Whether no row is confident enough to go on."""
        return not self._sure.any()

    def take(self, logits: torch.Tensor) -> None:
        """Draw the next draft of each row from logits (rows, vocabulary)."""
        if self._sampling.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            if self._clocks is None:
                self._clocks = log_exponentials(
                    (self._k, *logits.shape), logits.device, self._generator
                )
            kept = filtered(logits, self._sampling)
            tokens = (kept - self._clocks[len(self._tokens)]).argmax(-1)
            self._kept.append(kept)
        self._sequences.put(len(self._tokens), tokens)
        self._tokens.append(tokens)
        self._vocabulary = logits.shape[-1]
        if self._confidence:
            self._steps.append(self._sure)
            self._sure = (
                self._sure
                & (confidence(logits, tokens, self._sampling) >= self._confidence).cpu().numpy()
            )

    def proposal(self) -> Proposal:
        tokens = torch.stack(self._tokens, 1)
        distributions = (
            torch.softmax(torch.stack(self._kept, 1), -1)
            if self._kept
            else one_hot(tokens, self._vocabulary)
        )
        drafted = np.full(tokens.shape[0], tokens.shape[1])
        if self._confidence:
            proposed = np.stack(self._steps, 1)
            drafted = proposed.sum(1)
            distributions = (
                distributions * torch.from_numpy(proposed).to(distributions.device)[..., None]
            )
        behind = torch.zeros_like(distributions[:, :1])
        return Proposal(tokens, torch.cat([distributions, behind], 1), drafted)


def reach_of(k: int, depth: int) -> int:
    """Columns that a round can take back or run again at most, with room for a pass whose later
    heads did not run.
    """
    return 2 * (k + depth) + 4
