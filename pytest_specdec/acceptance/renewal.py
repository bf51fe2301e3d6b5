"""Rounds as a renewal process over the positions of a given text.

Conditional on the text, a round that starts at position t accepts at least i draft tokens with a
known probability, its survival S[t, i] (for most rules the product of a[t,0] ... a[t,i-1]); having
accepted m, the next round starts at t + m + 1. Walking the positions once gives the exact expected
number of rounds and accepted tokens for any k: no draft is ever sampled.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .counts import Array, Counts

End = Literal["inside", "clip", "whole"]
"""What happens to rounds near the text's end.

`inside`: a round is counted only if its k draft positions all lie in the text, so each counted
round drafts k tokens. `clip`: as an engine with a length limit, draft at most so many tokens that
the target still emits the last one; where only that last token is left there is nothing to draft,
and no round is counted. `whole`: as `clip`, and with the rounds that have nothing to draft: every
pass of the target that a request takes after its first new token, and so the same tokens whatever
the k.
"""

_TEXTS = 128
"""Texts walked at once: survival of every start and step is held for so many."""
_ENOUGH = 1e150


@dataclasses.dataclass(frozen=True)
class AcceptanceField:
    """`accept[n, h, t]`: the chance that head h's draft at position t of text n would be accepted
    as that token.

    Shape (texts, heads, longest text), zero where undefined. Draft step i of a round is drafted by
    head `i mod heads`: a plain draft model has one head, a draft model with MTP layers 1 + depth,
    and the target's own heads (or prompt lookup) as many as the largest k, so that every step has
    its own.
    """

    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    accept: Array
    starts: NDArray[np.int64]
    """(texts,): where the first round starts, the position of its first draft token."""
    lengths: NDArray[np.int64]
    """(texts,): number of tokens, prompt included."""
    joint: bool = False
    """Whether positions are accepted jointly (block verification): `accept` then holds q/p,
    unclipped.
    """
    available: NDArray[np.int64] | None = None
    """(texts, longest): tokens that the drafter has to propose at each start; None where always
    k.
    """

    def first_heads(self, heads: int) -> AcceptanceField:
        """The field of a drafter that uses only its first heads."""
        return dataclasses.replace(self, accept=self.accept[:, :heads])

    def select(self, rows: slice | NDArray[np.int64]) -> AcceptanceField:
        """The field of some texts."""
        picked = range(len(self.prompts))[rows] if isinstance(rows, slice) else rows.tolist()
        return AcceptanceField(
            tuple(self.prompts[row] for row in picked),
            tuple(self.categories[row] for row in picked),
            self.accept[rows],
            self.starts[rows],
            self.lengths[rows],
            self.joint,
            None if self.available is None else self.available[rows],
        )

    def survival(self, drafted: NDArray[np.int64], k: int) -> Array:
        """(texts, longest, k): the chance that a round at each start accepts draft steps 0..i of
        those it drafted.
        """
        texts, heads, longest = self.accept.shape
        product = np.ones((texts, longest))
        alive = np.ones((texts, longest))
        out = np.empty((texts, longest, k))
        for step in range(k):
            at_step = np.zeros((texts, longest))
            at_step[:, : max(longest - step, 0)] = self.accept[:, step % heads, step:]
            product *= np.where(step < drafted, at_step, 0.0)
            if self.joint:
                np.minimum(product, _ENOUGH, out=product)
            alive = np.minimum(alive, product)
            out[:, :, step] = alive
        return out

    def rounds_at(self, k: int, end: End) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """(texts, longest) each: whether a round at each start is counted, and how many tokens it
        drafts.
        """
        left = self.lengths[:, None] - np.arange(self.accept.shape[2])
        most = np.full(left.shape, k) if self.available is None else np.minimum(self.available, k)
        if end == "inside":
            counted = left >= k
            return counted, np.where(counted, most, 0)
        return left > (1 if end == "clip" else 0), np.minimum(most, np.maximum(left - 1, 0))


def expected_counts(field: AcceptanceField, k: int, end: End = "inside") -> Counts:
    """Exact expected counts of speculative decoding with k draft tokens per round, given the
    texts.
    """
    texts = len(field.prompts)
    rounds, drafted, accepted = np.zeros(texts), np.zeros((texts, k)), np.zeros((texts, k))
    for begin in range(0, texts, _TEXTS):
        rows = slice(begin, begin + _TEXTS)
        rounds[rows], drafted[rows], accepted[rows] = _walk(field.select(rows), k, end)
    return Counts(field.prompts, field.categories, rounds, drafted, accepted)


def with_requests(counts: Counts, field: AcceptanceField) -> Counts:
    """The counts of a field's texts, with what whole requests take: `emitted` tokens in `passes` of
    the target.

    Of every text all tokens after the first new one are emitted, at its end with as many drafts as
    are left to emit, so that counts of different k compare on the same tokens.

    >>> field = AcceptanceField(("p",), ("all",), np.ones((1, 1, 11)), np.array([2]),
    np.array([11]))
    >>> [with_requests(expected_counts(field, k), field).request_length for k in (2, 8)]
    [3.0, 9.0]
    """
    passes = expected_counts(field, counts.k, "whole").rounds
    return dataclasses.replace(
        counts,
        emitted=np.maximum(field.lengths - field.starts, 0).astype(np.float64),
        passes=passes,
    )


def _walk(field: AcceptanceField, k: int, end: End) -> tuple[Array, Array, Array]:
    """Expected rounds (texts,), drafted and accepted (texts, k)."""
    counted, proposed = field.rounds_at(k, end)
    survival = field.survival(proposed, k)
    weight = visits(field, counted, accepted_distribution(survival))
    drafted = np.stack([(weight * (proposed > step)).sum(1) for step in range(k)], axis=1)
    return weight.sum(1), drafted, np.einsum("nt,nti->ni", weight, survival)


def accepted_distribution(survival: Array) -> Array:
    """(..., k + 1): the chance of each number of accepted tokens, from the survival (..., k) of
    each draft step.
    """
    edge = np.ones((*survival.shape[:-1], 1))
    distribution: Array = -np.diff(np.concatenate([edge, survival, 0 * edge], axis=-1), axis=-1)
    return distribution


def visits(field: AcceptanceField, counted: NDArray[np.bool_], accepted: Array) -> Array:
    """(texts, longest): the expected number of counted rounds at each start; at most 1.

    `accepted` (texts, longest, k + 1) is the distribution of the accepted tokens of a round at each
    start.
    """
    texts, longest, ends = accepted.shape
    expected = np.zeros((texts, longest + ends + 1))
    expected[np.arange(texts), field.starts] = 1.0
    for start in range(int(field.starts.min(initial=longest)), longest):
        expected[:, start] *= counted[:, start]
        expected[:, start + 1 : start + ends + 1] += expected[:, start, None] * accepted[:, start]
    return expected[:, :longest]


def sample_rounds(
    field: AcceptanceField, k: int, rng: np.random.Generator, end: End = "inside"
) -> list[list[tuple[int, int]]]:
    """Play the rounds once per text: (start, accepted) in order.

    At temperature 0 every survival is 0 or 1 and the rounds are the decoder's, whatever the
    generator.
    """
    counted, proposed = field.rounds_at(k, end)
    survival = field.survival(proposed, k)
    played: list[list[tuple[int, int]]] = []
    for row, (start, length) in enumerate(
        zip(field.starts.tolist(), field.lengths.tolist(), strict=True)
    ):
        rounds = []
        while start < length and counted[row, start]:
            taken = int((rng.random() < survival[row, start]).sum())
            rounds.append((start, taken))
            start += taken + 1
        played.append(rounds)
    return played
