"""What a drafter computes from its logits on given texts, head by head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ...acceptance.scores import SMOOTHING
from ...cases.rules import token_acceptance
from ..distributions import in_cache, likeliest, log_distributions, log_scores, one_hot
from .protocol import DraftScores, TextBatch
from .teacher_forcing import as_array


class ScoreArrays:
    """The scores of one batch, filled by `fill` and returned by `scores`.

    Every head starts undefined: log-probability -inf, no overlap.
    """

    def __init__(self, batch: TextBatch, heads: int) -> None:
        rows, length = batch.ids.shape
        self._batch, self._shape = batch, (rows, heads, length - batch.begin)
        self._log_q = self._empty(-np.inf)
        self._smoothed = self._empty(-np.inf) if batch.greedy else None
        self._overlaps = {rule: self._empty(0.0) for rule in batch.rules}

    def fill(
        self, head: int, first: int, logits: torch.Tensor, drafted: torch.Tensor | None = None
    ) -> None:
        """Score the tokens from position `first` on by one head.

        `logits` are (rows, positions, vocabulary), one for each of those tokens. Of a head that
        drafts some tokens alone they may be of those: `drafted` (vocabulary,) holds their ids.
        Raises MeasurementError for NaN.
        """
        batch = self._batch
        logits = batch.drafter_logits(first, logits)
        if batch.observe is not None:
            batch.observe(head, first, logits, drafted)
        tokens, unknown = batch.ids[:, first:].to(logits.device), None
        if drafted is not None:
            tokens, unknown = _places(tokens, drafted)
        place = slice(first - batch.begin, None)
        scores = log_scores(logits, tokens, batch.sampling)
        self._log_q[:, head, place] = _scored(scores, unknown)
        if self._smoothed is not None:
            scores = smoothed_scores(logits, tokens)
            self._smoothed[:, head, place] = _scored(scores, unknown)
        if batch.target is not None:
            target = batch.target[:, place].to(logits.device)
            if drafted is not None:
                target = target[..., drafted]
            for rule, overlap in overlaps(target, logits, batch).items():
                self._overlaps[rule][:, head, place] = overlap

    def scores(self) -> DraftScores:
        """All heads' scores."""
        return DraftScores(self._log_q, smoothed=self._smoothed, overlaps=self._overlaps)

    def _empty(self, value: float) -> NDArray[np.float32]:
        return np.full(self._shape, value, dtype=np.float32)


def smoothed_scores(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of tokens at the smoothing temperature of greedy cases."""
    parts = [
        torch.log_softmax(some.float() / SMOOTHING, -1).gather(-1, those[:, None])[:, 0]
        for some, those in in_cache(logits, tokens)
    ]
    return torch.cat(parts).reshape(tokens.shape)


def _places(tokens: torch.Tensor, drafted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each token stands among the drafted ones, any place for one that is not among them, and
    which these are.
    """
    ascending, order = drafted.sort()
    places = order[torch.searchsorted(ascending, tokens.contiguous()).clamp(max=len(drafted) - 1)]
    return places, drafted[places] != tokens


def _scored(scores: torch.Tensor, unknown: torch.Tensor | None) -> NDArray[np.float32]:
    """Scores with -inf for unknown tokens. Raises MeasurementError for NaN, of those, too."""
    array = as_array(scores)
    if unknown is not None:
        array[unknown.cpu().numpy()] = -np.inf
    return array


def overlaps(
    target: torch.Tensor, logits: torch.Tensor, batch: TextBatch
) -> Mapping[str, NDArray[np.float32]]:
    """The chance, by rule, that a draft is accepted in each context: the sum over all tokens x of
    p(x) times the chance that x is accepted if the target emits it.

    `target` holds log-probabilities and `logits` the drafter's logits, (rows, positions,
    vocabulary); a token that only one of the two has is never accepted. At temperature 0 both are
    distributions at the smoothing temperature.
    """
    draft = _log_q(logits, batch)
    shared = min(target.shape[-1], draft.shape[-1])
    target, draft = target[..., :shared], draft[..., :shared]
    return {rule: _overlap(rule, target, draft) for rule in batch.rules}


def _log_q(logits: torch.Tensor, batch: TextBatch) -> torch.Tensor:
    """Log-probabilities of the drafts; of an arg-max that a sampling target verifies one-hot."""
    if batch.sampling.temperature == 0 and not batch.greedy:
        return one_hot(likeliest(logits), logits.shape[-1]).log_()
    return log_distributions(logits, batch.sampling)


def _overlap(rule: str, target: torch.Tensor, draft: torch.Tensor) -> NDArray[np.float32]:
    if rule in ("rejection", "greedy"):
        return as_array(torch.minimum(target, draft).exp_().sum(-1))
    if rule == "sample-match":
        return as_array((target + draft).exp_().sum(-1))
    accepted = token_acceptance(rule)
    assert accepted is not None
    log_q, log_p = draft.cpu().double().numpy(), target.cpu().double().numpy()
    with np.errstate(invalid="ignore"):
        chance = np.where((log_q > -np.inf) & (log_p > -np.inf), accepted(log_q, log_p), 0.0)
    total: NDArray[np.float32] = (np.exp(log_p) * chance).sum(-1).astype(np.float32)
    return total
