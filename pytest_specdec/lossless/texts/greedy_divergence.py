"""Where an engine's token is not the target's: a numerical tie, or a bug."""

from __future__ import annotations

import dataclasses

import torch

from ...cases.case import Sampling
from ...decoding.distributions import TOLERANCES as TOLERANCES

_SUMS = 1e-5
"""What sums of probabilities in float32 may be off by."""


@dataclasses.dataclass(frozen=True)
class Divergence:
    """A greedy engine's token that is not the target's arg-max in teacher forcing."""

    text: int
    position: int
    """Index in the sequence, prompt included."""
    token: int
    expected: int
    gap: float
    """Logit of the expected token minus that of the emitted one; between the best two it is the
    top-2 gap.
    """
    tie: bool
    """Whether the gap is within the tolerance."""


def greedy_gaps(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The arg-max (positions,) and how far its logit lies above the token's, from logits
    (positions, vocabulary).
    """
    best = logits.argmax(-1)
    chosen = logits.gather(-1, torch.stack([best, tokens], 1)).double()
    return best, chosen[:, 0] - chosen[:, 1]


def near_cutoff(
    logits: torch.Tensor, tokens: torch.Tensor, sampling: Sampling, tolerance: float
) -> torch.Tensor:
    """Whether each token (positions,) would be in the support if gaps between logits moved by the
    tolerance.

    It would if fewer than top_k tokens, and tokens of less mass than top_p, are likelier beyond the
    tolerance. Such a move changes a mass m by m (1 - m) tolerance at most to first order, which is
    the slack of top_p.
    """
    scaled, gap = logits.double() / sampling.temperature, tolerance / sampling.temperature
    likelier = scaled > scaled.gather(-1, tokens[:, None]) + gap
    near = logits.gather(-1, tokens[:, None])[:, 0] > -torch.inf  # no gap opens a logits processor
    if sampling.top_k > 0:
        near &= likelier.sum(-1) < sampling.top_k
        kept = min(sampling.top_k, scaled.shape[-1])
        scaled = scaled.masked_fill(scaled < scaled.topk(kept, -1).values[:, -1:], -torch.inf)
    mass = torch.where(likelier, scaled.softmax(-1), 0.0).sum(-1)
    slack = sampling.top_p * (1 - sampling.top_p) * gap + _SUMS
    return near & ((sampling.top_p >= 1) | (mass < sampling.top_p + slack))
