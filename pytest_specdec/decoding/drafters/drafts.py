"""What proposers share: the drafts of a round as they are drawn, and how far caches reach back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...cases.case import Sampling
from ..distributions import check_logits, confidence, filtered, log_exponentials
from ..ragged import Sequences
from .protocol import CertainProposal, Proposal


class Drafts:
    """The drafts of a round as they are drawn, each written into the sequences for the next step to
    read.
    """

    def __init__(
        self,
        sequences: Sequences,
        sampling: Sampling,
        k: int,
        generator: torch.Generator | None,
        confidence: float | NDArray[np.floating] = 0.0,
    ) -> None:
        """`confidence` is one for all rows, or one for each; 0 never stops."""
        self._sequences, self._sampling = sequences, sampling
        self._k, self._generator = k, generator
        self._tokens: list[torch.Tensor] = []
        self._kept: list[torch.Tensor] = []
        self._best: list[torch.Tensor] = []
        """(rows,) for each draft: the largest logit, NaN where any is NaN."""
        self._clocks: torch.Tensor | None = None
        self._confidence = confidence
        self._stops = bool(np.any(confidence))
        self._seen: list[NDArray[np.floating]] = []
        """(rows,) for each draft: how likely the drafter found it, where some stop by that."""
        self._sure = np.ones(len(sequences.lengths), dtype=bool)
        self._steps: list[NDArray[np.bool_]] = []
        """Which rows proposed each draft, where a confidence stops some."""

    @property
    def stopped(self) -> bool:
        """Whether no row is confident enough to go on."""
        return not self._sure.any()

    def take(self, logits: torch.Tensor) -> None:
        """Draw the next draft of each row from logits (rows, vocabulary), after the sequences'
        processors.
        """
        logits = self._sequences.drafter_logits(len(self._tokens), logits)
        if self._sampling.temperature == 0:
            best = logits.max(-1)
            tokens = best.indices
            self._best.append(best.values)
        else:
            if self._clocks is None:
                self._clocks = log_exponentials(
                    (self._k, *logits.shape), logits.device, self._generator
                )
            kept = filtered(logits, self._sampling)
            tokens = (kept - self._clocks[len(self._tokens)]).argmax(-1)
            self._kept.append(kept)
            self._best.append(kept.amax(-1))
        self._sequences.put(len(self._tokens), tokens)
        self._tokens.append(tokens)
        self._vocabulary = logits.shape[-1]
        if self._stops:
            self._steps.append(self._sure)
            self._seen.append(confidence(logits, tokens, self._sampling).cpu().numpy())
            self._sure = self._sure & (self._seen[-1] >= self._confidence)

    @property
    def confidences(self) -> list[tuple[float, ...]]:
        """Of each row's drafts, where some stop by them; also of those after it stopped."""
        return [tuple(map(float, row)) for row in np.stack(self._seen, 1)] if self._seen else []

    def proposal(self) -> Proposal:
        """The drafts of the round. Raises MeasurementError where logits were NaN or infinite: their
        arg-max is a token, and a broken drafter would pass for a poor one.
        """
        tokens = torch.stack(self._tokens, 1)
        drafted = np.full(tokens.shape[0], tokens.shape[1])
        if self._stops:
            proposed = np.stack(self._steps, 1)
            drafted = proposed.sum(1)
        check_logits(torch.stack(self._best)[..., None])
        if not self._kept:
            return CertainProposal(tokens, drafted, self._vocabulary)
        distributions = torch.softmax(torch.stack(self._kept, 1), -1)
        if self._stops:
            distributions = (
                distributions * torch.from_numpy(proposed).to(distributions.device)[..., None]
            )
        after_the_last = torch.zeros_like(distributions[:, :1])
        return Proposal(tokens, torch.cat([distributions, after_the_last], 1), drafted)


def reach_of(k: int, depth: int) -> int:
    """Columns that a round can take back or run again at most, with room for a pass whose later
    heads did not run.
    """
    return 2 * (k + depth) + 4
