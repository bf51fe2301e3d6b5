"""Log-probabilities of texts' own tokens: all that replay needs of the models, whoever served them.

Given a text Y of the target, each lossless rule accepts a draft of Y's token y with a probability
that follows from p(y) and q(y) alone:

    rejection     min(1, q/p)                                  (Leviathan et al., arXiv 2211.17192)
    sample-match  q: the target drew y by itself, and the draft must be equal to it
    greedy        1 where y is the drafter's arg-max, else 0
    block         the first i positions jointly with min over j <= i of the product of q/p over 1..j

The last follows from block verification's own invariant (Sun et al., arXiv 2403.10444): it accepts
at least i tokens of a draft X with probability w_i = min(1, w_{i-1} p/q), so given Y with w_i times
the product of q/p, and min(1, w r) / r = min(1/r, w) unfolds to the running minimum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases.rules import is_lossy, token_acceptance
from ..common.errors import MeasurementError, RequestError
from .counts import Array
from .renewal import AcceptanceField
from .text_origin import Origin

SMOOTHING = 0.1
"""Temperature of the draft's distribution in the smoothed counts of greedy cases: at temperature 0
an arg-max that flips at a near-tie moves acceptance by whole tokens, at this one by what the two
logits differ.
"""
LARGEST_RATIO = 230.0
"""Largest log-ratio kept: e^230 is past every probability, and products of it stay finite after
clipping.
"""


@dataclasses.dataclass(frozen=True)
class Scores:
    """One drafter's and the target's log-probabilities on a set of texts, after temperature, top-k
    and top-p.
    """

    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    target: NDArray[np.floating]
    """(texts, longest): log p of each text's own token, finite; 0 at temperature 0, where it is
    certain.
    """
    draft: NDArray[np.floating]
    """(texts, heads, longest): log q of it by each head, -inf where undefined; 0 or -inf at
    temperature 0.
    """
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    available: NDArray[np.int64] | None = None
    """(texts, longest): tokens that the drafter proposes at each start, where that is not
    always k.
    """
    origin: Origin | None = None
    """The target's evidence on the texts' origin, where it was requested."""
    source: NDArray[np.floating] | None = None
    """(texts, longest): log-probability of each text's own token by the target that emitted it,
    where that is another one than `target`'s.
    """
    smoothed: NDArray[np.floating] | None = None
    """As `draft`, by the draft's distribution at `SMOOTHING`; None at temperatures above 0, and for
    drafts that are certain.
    """
    overlaps: Mapping[str, NDArray[np.floating]] = dataclasses.field(default_factory=dict)
    """By rule, as `draft`: the chance that a head's draft is accepted in each context, whatever the
    text's own token. At temperature 0 only by the rule `greedy`, both models at `SMOOTHING`.
    """

    def first_heads(self, heads: int) -> Scores:
        """The scores of a drafter that uses only its first heads."""
        return self.replace_heads(lambda array, undefined: array[:, :heads])

    def replace_heads(self, change: Callable[[NDArray[Any], float], NDArray[Any]]) -> Scores:
        """The scores with each array by head, (texts, heads, longest), changed in the same way.

        `change` also receives the array's value where a head has no draft.
        """
        return dataclasses.replace(
            self,
            draft=change(self.draft, -np.inf),
            smoothed=None if self.smoothed is None else change(self.smoothed, -np.inf),
            overlaps={rule: change(overlap, 0.0) for rule, overlap in self.overlaps.items()},
        )

    def smoothed_field(self) -> AcceptanceField:
        """The acceptance field at temperature 0 with the draft's distribution at `SMOOTHING` in the
        place of its arg-max.
        """
        draft = self.draft if self.smoothed is None else self.smoothed
        return dataclasses.replace(self, draft=draft).field("greedy")

    def field(self, rule: str) -> AcceptanceField:
        """The acceptance field under a verification rule.

        Raises RequestError for a lossy rule, which changes the texts, and for a rule of another
        package that does not say how it accepts given tokens; MeasurementError for NaN, and for a
        token that could be drafted and that the target cannot emit: no rule says how probable its
        acceptance is.
        """
        self._check_possible()
        draft, target = self.draft.astype(np.float64), self.target.astype(np.float64)[:, None]
        ratio = np.subtract(draft, target, out=np.full(draft.shape, -np.inf), where=draft > -np.inf)
        accept: Array
        if rule == "rejection":
            accept = np.exp(np.minimum(ratio, 0.0))
        elif rule in ("sample-match", "greedy"):
            accept = np.exp(draft)
        elif rule == "block":
            accept = np.exp(np.minimum(ratio, LARGEST_RATIO))
        elif (accepted := token_acceptance(rule)) is not None:
            accept = _probabilities(rule, accepted(draft, target), draft)
        else:
            raise RequestError(_not_replayed(rule))
        return AcceptanceField(
            self.prompts,
            self.categories,
            accept,
            self.starts,
            self.lengths,
            joint=rule == "block",
            available=self.available,
        )

    def _check_possible(self) -> None:
        for scores in (self.target, self.draft.max(axis=1, initial=-np.inf)):
            if (at := np.argwhere(~(scores < np.inf))).size:
                raise MeasurementError(
                    f"a log-probability of text {self.prompts[at[0, 0]]} is nan or inf; check the "
                    "model that it comes from"
                )
        impossible = (self.target == -np.inf) & (self.draft > -np.inf).any(axis=1)
        if (at := np.argwhere(impossible)).size:
            text, position = at[0].tolist()
            raise MeasurementError(
                f"the target gives the token at position {position} of text {self.prompts[text]} "
                "probability 0, so the text is "
                "not its own; replay texts that it emitted, with the temperature and filters that "
                "they were sampled with"
            )


def _probabilities(rule: str, accept: Array, draft: Array) -> Array:
    """A rule of another package's acceptance, 0 where a head has no log-probability. Raises
    MeasurementError for values that are not probabilities.
    """
    known = np.broadcast_to(accept, draft.shape)[draft > -np.inf]
    if not ((known >= 0) & (known <= 1)).all():
        raise MeasurementError(
            f"rule {rule!r} accepts a token with a probability outside 0 to 1; correct its "
            "`accepted`"
        )
    return np.where(draft > -np.inf, accept, 0.0)


def _not_replayed(rule: str) -> str:
    """Why there is no field of a rule."""
    if is_lossy(rule):
        return (
            f"rule {rule!r} is lossy: its texts do not follow the target's distribution, so they "
            "cannot be replayed; decode it"
        )
    return (
        f"rule {rule!r} does not say with what probability it accepts a given token; decode it, "
        "or give its Rule `accepted`"
    )
