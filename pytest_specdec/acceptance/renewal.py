"""Rounds as a renewal process over the positions of a given text.

Conditional on the text, a round that starts at position t accepts m draft tokens with probability
a[t,0] ... a[t,m-1] (1 - a[t,m]); the next round starts at t + m + 1. Walking the positions once gives the exact
expected number of rounds and accepted tokens for any k: no draft is ever sampled (DESIGN: section 3, replay).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .counts import Array, Counts

End = Literal["inside", "clip"]
"""What happens to rounds near the text's end.

`inside`: a round is counted only if its k draft positions all lie in the text, so each counted round drafts k tokens.
`clip`: as an engine with a length limit, draft at most so many tokens that the target still emits the last one; where
only that last token is left there is nothing to draft, and no round is counted.
"""


@dataclasses.dataclass(frozen=True)
class AcceptanceField:
    """`accept[n, h, t]`: the chance that head h's draft at position t of text n would be accepted as that token.

    Shape (texts, heads, longest text), zero where undefined. Draft step i of a round is drafted by head
    `i mod heads`: a plain draft model has one head, a draft model with MTP layers 1 + depth, and the target's own
    heads as many as the largest k, so that every step has its own.
    """

    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    accept: Array
    starts: NDArray[np.int64]
    """(texts,): where the first round starts, the position of its first draft token."""
    lengths: NDArray[np.int64]
    """(texts,): number of tokens, prompt included."""

    def first_heads(self, heads: int) -> AcceptanceField:
        """The field of a drafter that uses only its first heads."""
        return dataclasses.replace(self, accept=self.accept[:, :heads])

    def select(self, row: int) -> AcceptanceField:
        """The field of one text."""
        part = slice(row, row + 1)
        return AcceptanceField(
            self.prompts[part], self.categories[part], self.accept[part], self.starts[part], self.lengths[part]
        )

    def steps(self, start: int, k: int) -> Array:
        """(texts, k): acceptance of each draft step of a round that starts at `start`; zero past the padded end."""
        positions = np.arange(start, min(start + k, self.accept.shape[2]))
        heads = (positions - start) % self.accept.shape[1]
        out = np.zeros((len(self.prompts), k))
        out[:, : len(positions)] = self.accept[:, heads, positions]
        return out


def expected_counts(field: AcceptanceField, k: int, end: End = "inside") -> Counts:
    """Exact expected counts of speculative decoding with k draft tokens per round, given the texts."""
    texts, longest = len(field.prompts), field.accept.shape[2]
    visits = np.zeros((texts, longest + k + 2))
    visits[np.arange(texts), field.starts] = 1.0
    rounds, drafted, accepted = np.zeros(texts), np.zeros((texts, k)), np.zeros((texts, k))
    for start in range(int(field.starts.min(initial=longest)), longest):
        proposed = _proposed(field, start, k, end)
        weight = np.where(proposed > 0, visits[:, start], 0.0)
        in_round = np.arange(k) < proposed[:, None]
        survival = np.cumprod(np.where(in_round, field.steps(start, k), 0.0), axis=1)
        rounds += weight
        drafted += weight[:, None] * in_round
        accepted += weight[:, None] * survival
        reached = np.concatenate([np.ones((texts, 1)), survival, np.zeros((texts, 1))], axis=1)
        visits[:, start + 1 : start + k + 2] += weight[:, None] * (reached[:, :-1] - reached[:, 1:])
    return Counts(field.prompts, field.categories, rounds, drafted, accepted)


def sample_rounds(field: AcceptanceField, k: int, rng: np.random.Generator, end: End = "inside") -> list[list[tuple[int, int]]]:
    """Play the rounds once per text: (start, accepted) in order.

    At temperature 0 every acceptance is 0 or 1 and the rounds are the decoder's, whatever the generator.
    """
    played: list[list[tuple[int, int]]] = []
    for row, (start, length) in enumerate(zip(field.starts.tolist(), field.lengths.tolist(), strict=True)):
        rounds, own = [], field.select(row)
        while start < length:
            proposed = int(_proposed(own, start, k, end)[0])
            if proposed <= 0:
                break
            coins = rng.random(proposed) < own.steps(start, k)[0, :proposed]
            taken = proposed if coins.all() else int(np.argmin(coins))
            rounds.append((start, taken))
            start += taken + 1
        played.append(rounds)
    return played


def _proposed(field: AcceptanceField, start: int, k: int, end: End) -> NDArray[np.int64]:
    """(texts,): draft tokens proposed by a round at `start`; 0 where no such round is counted."""
    left = field.lengths - start
    if end == "inside":
        return np.where(left >= k, k, 0)
    return np.clip(left - 1, 0, k)
