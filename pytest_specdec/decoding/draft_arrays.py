"""One drafter's scores of a set of texts, filled batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..acceptance.scores import Scores
from ..acceptance.text_origin import Origin
from ..cases.case import Sampling
from ..cases.texts import Text
from .drafters.protocol import DraftScores


@dataclasses.dataclass
class DraftArrays:
    """One drafter's scores of all texts, filled batch by batch."""

    log_q: NDArray[np.float32]
    available: NDArray[np.int64] | None = None
    smoothed: NDArray[np.float32] | None = None
    overlaps: dict[str, NDArray[np.float32]] = dataclasses.field(default_factory=dict)

    @classmethod
    def empty(cls, heads: int, *, texts: int, longest: int) -> DraftArrays:
        """Arrays without any score, for texts of `longest` tokens at most."""
        return cls(np.full((texts, heads, longest), -np.inf, dtype=np.float32))

    def fill(self, rows: list[int], place: slice, scores: DraftScores) -> None:
        """Write the scores of one batch, of so many positions, into its rows."""
        self.log_q[rows, :, place] = scores.log_q
        if scores.smoothed is not None:
            if self.smoothed is None:
                self.smoothed = np.full_like(self.log_q, -np.inf)
            self.smoothed[rows, :, place] = scores.smoothed
        for rule, overlap in scores.overlaps.items():
            whole = self.overlaps.setdefault(rule, np.zeros_like(self.log_q))
            whole[rows, :, place] = overlap
        if scores.available is not None:
            if self.available is None:
                self.available = np.zeros((len(self.log_q), self.log_q.shape[2]), dtype=np.int64)
            self.available[rows, place] = scores.available

    def scores(
        self,
        texts: Sequence[Text],
        log_p: NDArray[np.float32],
        origin: Origin | None,
        source: NDArray[np.float32] | None,
    ) -> Scores:
        """The scores of all texts, undefined past the end of each."""
        lengths = np.array([len(text.ids) for text in texts])
        log_q = self.log_q
        past_the_end = np.arange(log_q.shape[2]) >= lengths[:, None, None]
        past_the_end = np.broadcast_to(past_the_end, log_q.shape)
        log_q[past_the_end] = -np.inf
        if self.smoothed is not None:
            self.smoothed[past_the_end] = -np.inf
        for overlap in self.overlaps.values():
            overlap[past_the_end] = 0.0
        return Scores(
            prompts=tuple(text.key for text in texts),
            categories=tuple(text.category for text in texts),
            target=log_p,
            draft=log_q,
            starts=np.array([text.first_draft for text in texts]),
            lengths=lengths,
            available=self.available,
            origin=origin,
            source=source,
            smoothed=self.smoothed,
            overlaps=self.overlaps,
        )


def overlap_rules(rules: Sequence[str], sampling: Sampling) -> tuple[str, ...]:
    """The rules whose overlaps replay computes: block verification accepts positions
    jointly, so it has none; at temperature 0 all rules are one.
    """
    if sampling.temperature == 0:
        return ("greedy",)
    return tuple(rule for rule in rules if rule != "block")


def new_token_values(
    texts: Sequence[Text], values: Sequence[Sequence[float]], longest: int
) -> NDArray[np.float32]:
    """Values of each text's new tokens at their positions, (texts, longest)."""
    placed = np.zeros((len(texts), longest), dtype=np.float32)
    for row, (text, of_text) in enumerate(zip(texts, values, strict=True)):
        placed[row, text.prompt_length : len(text.ids)] = of_text
    return placed
