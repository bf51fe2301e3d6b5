"""Acceptance in the contexts of given texts, for a pair that need not have emitted them.

A text of an old target p is also a set of contexts. In each of them a round of a new pair (p', q')
accepts its first i drafts with a probability that a sum over continuations gives, and that the
text's own continuation y ~ p estimates without bias, by weights over one round only:

    sum over y of prod_j min(p'(y_j), q'(y_j)) = E_{y ~ p} prod_j min(p'(y_j), q'(y_j)) / p(y_j)

as long as p gives some probability to every token that both p' and q' can have. The last factor
needs no sample: its mean is the overlap, the sum over all tokens, which the models' distributions
give in each context. So the first position is exact, and each later one estimates only the path to
its context. Other rules replace min(p', q') by p' times the chance that the rule accepts the token.
Block verification accepts positions jointly (see `acceptance.scores`); its last factor stays a
sample.

Where p is cut by top-k or top-p, tokens outside its support are never seen on the path to a
context. What the new pair could accept there is bounded by the mass that the samples miss, the
overlap less the mean weight.

Every start counts alike: a start is counted by its position alone, never by what follows it, and
the starts that a renewal walk visits would differ between the old pair and the new one. At
temperature 0, where an old text is not a sample, the chance at each context is the overlap of both
distributions at a small temperature, and a round is followed along the text.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from .counts import Array, Counts
from .scores import LARGEST_RATIO, Scores


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContextCounts:
    """Expected acceptance of one round from every start of a set of texts."""

    counts: Counts
    """`rounds` is the number of starts of each text; `accepted` sums over them the chance that a
    round accepts drafts 1 to i. Sums of several positions need not fall: each has its own estimate.
    """
    effective_share: float
    """The effective number of starts over their number, by the weights prod p'/p of a whole round:
    1 for the target that emitted the texts, near 0 where the targets have little in common.
    """
    unseen: float
    """Bound on what the estimate misses, in accepted tokens per round: drafts that only follow from
    tokens outside the old target's support. 0 without top-k and top-p.
    """


def context_counts(
    scores: Scores, rule: str, k: int, limits: NDArray[np.int64], *, filters: bool = False
) -> ContextCounts | None:
    """The acceptance of one round of k drafts from every start.

    Parameters
    ----------
    scores
        Of the pair that is judged, with overlaps; `scores.source` where the texts are those of
        another target.
    rule
        Verification rule; at temperature 0 ``"greedy"``.
    limits
        (texts,): the length that each text could have reached. A round that could draft past it is
        not counted; after the end of a text that ended by itself nothing is accepted.
    filters
        Whether the distributions are cut by top-k or top-p.

    Returns
    -------
    ContextCounts or None
        None where the drafter has no overlaps for the rule.
    """
    joint = rule == "block"
    if not joint and rule not in scores.overlaps:
        return None
    starts = _counted(scores, k, limits)
    walk = _BlockWalk(scores) if joint else _TokenWalk(scores, rule)
    texts = len(scores.prompts)
    accepted = np.zeros((texts, k))
    unseen = 0.0
    for step in range(k):
        chance, missed = walk.advance(step)
        proposes = starts if scores.available is None else starts & (scores.available > step)
        accepted[:, step] = (chance * proposes).sum(1)
        unseen += (k - 1 - step) * float((missed * proposes).sum())
    rounds = starts.sum(1).astype(np.float64)
    total = max(rounds.sum(), 1.0)
    return ContextCounts(
        counts=Counts(
            prompts=scores.prompts,
            categories=scores.categories,
            rounds=rounds,
            # As stored: how many drafts a text allows is the same on both sides.
            drafted=np.repeat(rounds[:, None], k, axis=1),
            accepted=accepted,
        ),
        effective_share=_effective_share(scores, k, starts),
        unseen=max(unseen, 0.0) / total if filters and scores.source is not None else 0.0,
    )


def _counted(scores: Scores, k: int, limits: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(texts, longest): the starts from which a round of k drafts is counted."""
    position = np.arange(scores.draft.shape[2])
    counted: NDArray[np.bool_] = (
        (position >= scores.starts[:, None])
        & (position < scores.lengths[:, None])
        & (position + k <= limits[:, None])
    )
    return counted


class _Walk:
    """All starts' rounds, draft by draft: arrays (texts, longest) by start."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores
        self._heads, self._longest = scores.draft.shape[1:]
        source = scores.target if scores.source is None else scores.source
        with np.errstate(invalid="ignore"):
            ratio = scores.target.astype(np.float64) - source
        inside = np.arange(self._longest) < scores.lengths[:, None]
        self._ratio: Array = np.where(inside, np.minimum(ratio, LARGEST_RATIO), -np.inf)
        """(texts, longest): log p'/p of each text's own token; -inf after its end."""

    def _ahead(self, values: Array, step: int) -> Array:
        """Values (texts, longest) by position as values by start, `step` positions ahead; the
        caller's counted starts never look past the longest text, save at its end.
        """
        shifted = np.zeros_like(values)
        shifted[:, : max(self._longest - step, 0)] = values[:, step:]
        return shifted


class _TokenWalk(_Walk):
    """Rules that accept token by token."""

    def __init__(self, scores: Scores, rule: str) -> None:
        super().__init__(scores)
        self._overlap = scores.overlaps[rule].astype(np.float64)
        if rule == "greedy":
            self._weight = self._overlap
        else:
            field = dataclasses.replace(scores, target=_finite(scores.target)).field(rule)
            self._weight = field.accept * np.exp(self._ratio)[:, None]
        self._path: Array = np.ones((len(scores.prompts), self._longest))

    def advance(self, step: int) -> tuple[Array, Array]:
        """By start: the chance to accept drafts 0 to `step`, and the part of the chance to reach
        the next context that the texts do not see.
        """
        head = step % self._heads
        overlap = self._ahead(self._overlap[:, head], step)
        chance = self._path * overlap
        missed = self._path * (overlap - self._ahead(self._weight[:, head], step))
        self._path = self._path * self._ahead(self._weight[:, head], step)
        return chance, missed


class _BlockWalk(_Walk):
    """Block verification: drafts 0 to i are accepted with the least product of q/p up to any."""

    def __init__(self, scores: Scores) -> None:
        super().__init__(scores)
        self._field = dataclasses.replace(scores, target=_finite(scores.target)).field("block")
        shape = (len(scores.prompts), self._longest)
        self._alive, self._product, self._weight = np.ones(shape), np.ones(shape), np.ones(shape)

    def advance(self, step: int) -> tuple[Array, Array]:
        """As `_TokenWalk.advance`."""
        emits = self._ahead(np.exp(self._ratio), step)
        missed = self._weight * self._alive * (1.0 - emits)
        self._product = self._product * self._ahead(self._field.accept[:, step % self._heads], step)
        np.minimum(self._product, 1e150, out=self._product)
        self._alive = np.minimum(self._alive, self._product)
        self._weight = self._weight * emits
        return self._weight * self._alive, missed


def _finite(target: NDArray[np.floating]) -> NDArray[np.floating]:
    """Log-probabilities with 0 in the place of -inf: such tokens have weight 0 by p'/p."""
    return np.where(target > -np.inf, target, 0.0)


def _effective_share(scores: Scores, k: int, starts: NDArray[np.bool_]) -> float:
    """(sum of weights)^2 / (number of starts * sum of squared weights)."""
    if scores.source is None or not starts.any():
        return 1.0
    walk = _Walk(scores)
    ratio = np.where(np.isneginf(walk._ratio), 0.0, walk._ratio)
    ratio[scores.target == -np.inf] = -np.inf
    total = sum((walk._ahead(ratio, step) for step in range(k)), np.zeros_like(ratio))
    weights = np.exp(np.minimum(total[starts], LARGEST_RATIO))
    square = float((weights**2).sum())
    return float(weights.sum() ** 2 / (len(weights) * square)) if square > 0 else 0.0
