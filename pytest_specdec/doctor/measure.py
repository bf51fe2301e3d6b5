"""How much of a reading's drafts is accepted, on texts that the target has read.

Readings are compared by the *chance of acceptance*: sum over all tokens x of min(p(x), q(x)), the
chance that a draft is accepted in its context whatever the text goes on with (Leviathan et al.,
arXiv 2211.17192), averaged over the contexts of a text and over the draft steps 1 to k. It does not
depend on which token the text happened to draw, so it decides with a quarter of the texts that the
acceptance length needs. The length is what users know, so it is measured and shown beside it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ..acceptance.counts import Counts
from ..acceptance.reference_drafters import reference_counts
from ..acceptance.renewal import expected_counts
from ..common.errors import MeasurementError
from ..common.student import student_quantile
from ..decoding.distributions import log_distributions
from ..decoding.drafters.protocol import TextBatch
from ..decoding.drafters.teacher_forcing import as_array
from ..gate.paired import Pair
from .target_states import TargetStates

Steps = Iterator[tuple[int, torch.Tensor]]
"""Of each draft step the first position that it scores and its logits (rows, positions, vocabulary)
from there on.
"""
FEWEST = 8
"""Texts below which nothing is decided."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ReadingScore:
    """The acceptance of one reading."""

    counts: Counts
    """Expected counts of its rounds."""
    chances: NDArray[np.float64]
    """(prompts,): the mean chance of acceptance of a draft in each text's contexts."""

    @property
    def chance(self) -> float:
        """The mean over texts."""
        return float(self.chances.mean())

    @property
    def length(self) -> float:
        """The acceptance length."""
        return self.counts.acceptance_length


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedGain:
    """A difference of two readings on the same texts, paired by prompt."""

    amount: float
    error: float
    """Standard error over prompts like these."""
    prompts: int

    @classmethod
    def of_chances(cls, before: ReadingScore, now: ReadingScore) -> PairedGain:
        """Of the chance of acceptance."""
        differences = now.chances - before.chances
        prompts = len(differences)
        error = float(differences.std(ddof=1) / math.sqrt(prompts)) if prompts > 1 else math.inf
        return cls(amount=float(differences.mean()), error=error, prompts=prompts)

    @classmethod
    def of_lengths(cls, before: Counts, now: Counts) -> PairedGain:
        """Of the acceptance length, in tokens."""
        pair = Pair.of(before, now)
        return cls(amount=-pair.length_drop, error=pair.standard_error(), prompts=pair.prompts)

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Two-sided Student interval with confidence 1 - alpha; infinite below `FEWEST` texts."""
        if self.prompts < FEWEST or not math.isfinite(self.error):
            return -math.inf, math.inf
        reach = -student_quantile(alpha / 2, self.prompts) * self.error
        return self.amount - reach, self.amount + reach


@torch.inference_mode()
def measured(steps: Callable[[TextBatch], Steps], seen: TargetStates, k: int) -> ReadingScore:
    """The acceptance by rejection sampling with k drafts a round; none is accepted where a step
    computes NaN.
    """
    texts, _, longest = seen.scores.draft.shape
    log_q = np.full((texts, k, longest), -np.inf, dtype=np.float32)
    chances = np.zeros((texts, k, longest), dtype=np.float32)
    for rows, batch in seen.batches:
        filled = _Filled(len(rows), k, batch)
        try:
            for step, (first, logits) in enumerate(steps(batch)):
                filled.fill(step, first, logits)
        except MeasurementError:
            continue
        place = slice(batch.begin, batch.ids.shape[1])
        log_q[rows, :, place], chances[rows, :, place] = filled.log_q, filled.chances
    drafted = _drafted(seen, k)
    log_q[np.broadcast_to(_past_the_end(seen), log_q.shape)] = -np.inf
    field = dataclasses.replace(seen.scores, draft=log_q).field("rejection")
    means = np.where(drafted, chances, 0.0).sum((1, 2)) / np.maximum(drafted.sum((1, 2)), 1)
    return ReadingScore(counts=expected_counts(field, k), chances=means.astype(np.float64))


@torch.inference_mode()
def first_drafts(steps: Callable[[TextBatch], Steps], seen: TargetStates) -> float:
    """The mean chance of acceptance of the first draft on the texts of `seen.few`, where a round of
    the text's own can draft; 0 where it computes NaN.
    """
    total, count = 0.0, 0
    for batch in seen.few:
        filled = _Filled(len(batch.texts), 1, batch)
        at = np.arange(batch.begin, batch.ids.shape[1])
        drafted = np.stack(
            [(at >= text.first_draft) & (at < len(text.ids)) for text in batch.texts]
        )
        count += int(drafted.sum())
        try:
            for first, logits in itertools.islice(steps(batch), 1):
                filled.fill(0, first, logits)
        except MeasurementError:
            continue
        total += float(filled.chances[:, 0][drafted].sum())
    return total / max(count, 1)


class _Filled:
    """One batch's scores from its first scored position on, (rows, k, positions)."""

    def __init__(self, rows: int, k: int, batch: TextBatch) -> None:
        shape = (rows, k, batch.ids.shape[1] - batch.begin)
        self.log_q = np.full(shape, -np.inf, dtype=np.float32)
        self.chances = np.zeros(shape, dtype=np.float32)
        self._batch = batch

    def fill(self, step: int, first: int, logits: torch.Tensor) -> None:
        """Raises MeasurementError for NaN."""
        batch, place = self._batch, slice(first - self._batch.begin, None)
        draft = log_distributions(logits, batch.sampling)
        tokens = batch.ids[:, first:, None].to(draft.device)
        self.log_q[:, step, place] = as_array(draft.gather(-1, tokens)[..., 0])
        assert batch.target is not None
        target = batch.target[:, place].to(draft.device, draft.dtype)
        shared = min(target.shape[-1], draft.shape[-1])
        common = torch.minimum(target[..., :shared], draft[..., :shared].exp_())
        self.chances[:, step, place] = as_array(common.sum(-1))


def knowing_nothing(seen: TargetStates, vocabulary: int, k: int) -> Counts:
    """The counts of the better of the drafters that know nothing of the target: uniform guesses,
    and each token's share among the new tokens of the other texts.
    """
    references = reference_counts(
        seen.scores, seen.texts, vocabulary=vocabulary, k=k, rule="rejection"
    )
    return max(references.uniform, references.unigrams, key=lambda counts: counts.acceptance_length)


def _drafted(seen: TargetStates, k: int) -> NDArray[np.bool_]:
    """(texts, k, longest): which positions a round of the text's own can draft at each step."""
    at = np.arange(seen.scores.draft.shape[2])
    first = seen.scores.starts[:, None] + np.arange(k)
    drafted: NDArray[np.bool_] = (at >= first[..., None]) & ~_past_the_end(seen)
    return drafted


def _past_the_end(seen: TargetStates) -> NDArray[np.bool_]:
    longest = seen.scores.draft.shape[2]
    past: NDArray[np.bool_] = np.arange(longest) >= seen.scores.lengths[:, None, None]
    return past
