"""hypothesis strategies for what a verifier is given: distributions, prefix trees of distributions,
rounds and batches of them.

Everything is built from small whole numbers, so that failures shrink to distributions such as [1,
0] and [0.5, 0.5]. Strategies are kept: hypothesis prepares each one at its first draw, which takes
longer than the draw.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st

from .exact import RoundInput
from .exact_batch import BatchInput
from .prefix_tree import Prefix, PrefixTree, Row

VOCAB_SIZES, DRAFTS = (2, 6), (1, 5)
"""The least and the greatest vocabulary size and number of drafts of `rounds`."""
HEAVIEST = 12
"""Distributions are weights from 0 to this, normalised."""
BATCH_ROWS, BATCH_DRAFTS = (2, 3), 3
"""Rows of `batches`, and the most drafts of all of them."""
SLIGHT = 1e-4
"""How far, relatively, the probabilities of near-equal distributions are apart."""
Ints = int | tuple[int, int]


@functools.cache
def distributions(vocab_size: int) -> st.SearchStrategy[Row]:
    """Distributions (V,) with zeros, ties, one-hot ones, and ones as half-precision logits give
    them.
    """
    weights = st.lists(st.integers(0, HEAVIEST), min_size=vocab_size, max_size=vocab_size).filter(
        any
    )
    logits = st.lists(st.integers(-24, 24), min_size=vocab_size, max_size=vocab_size)
    return weights.map(normalised) | logits.map(_from_half_logits)


@functools.cache
def pairs(vocab_size: int) -> st.SearchStrategy[tuple[Row, Row]]:
    """A target's and a drafter's distribution p and q (V,): unrelated, or related in one of the
    ways that samplers get wrong.
    """
    return st.tuples(distributions(vocab_size), distributions(vocab_size)) | st.builds(
        _related, distributions(vocab_size), st.sampled_from(sorted(RELATIONS)), st.booleans()
    )


def trees(vocab_size: int, *, by_position: bool = False) -> st.SearchStrategy[PrefixTree]:
    """A PrefixTree of up to three distributions that take turns over prefixes, or over positions
    alone.
    """
    return st.lists(distributions(vocab_size), min_size=1, max_size=3).map(
        lambda rows: turns(rows, by_position)
    )


def rounds(
    vocab_size: Ints = VOCAB_SIZES, k: Ints = DRAFTS, *, by_position: bool = False
) -> st.SearchStrategy[RoundInput]:
    """What `output_distribution` and `assert_lossless` give a sampler. Sizes are numbers or (least,
    greatest).
    """
    sizes, drafts = (
        st.just(size) if isinstance(size, int) else st.integers(*size) for size in (vocab_size, k)
    )
    return st.tuples(sizes, drafts).flatmap(lambda both: _rounds(*both, by_position))


@functools.cache
def _rounds(vocab_size: int, k: int, by_position: bool) -> st.SearchStrategy[RoundInput]:
    def built(rows: list[tuple[Row, Row]]) -> RoundInput:
        target, draft = zip(*rows, strict=True)
        return RoundInput(turns(target, by_position), turns(draft, by_position), k)

    return st.lists(pairs(vocab_size), min_size=1, max_size=3).map(built)


def batches(
    vocab_size: Ints = (2, 3), k: int = 3, *, by_position: bool = False
) -> st.SearchStrategy[BatchInput]:
    """Rows with 0 to k drafts, each with its own distributions, in one call; no more of them than
    can be enumerated.
    """
    sizes = st.just(vocab_size) if isinstance(vocab_size, int) else st.integers(*vocab_size)
    return st.tuples(sizes, st.sampled_from(_ragged(k))).flatmap(
        lambda both: _batch(*both, by_position)
    )


@functools.cache
def _batch(
    vocab_size: int, drafts: tuple[int, ...], by_position: bool
) -> st.SearchStrategy[BatchInput]:
    return st.tuples(*(_rounds(vocab_size, k, by_position) for k in drafts)).map(BatchInput)


def _ragged(k: int) -> list[tuple[int, ...]]:
    """Numbers of drafts of two or three rows, the least first; at least one has a draft."""
    numbers = [
        counts for rows in BATCH_ROWS for counts in itertools.product(range(k + 1), repeat=rows)
    ]
    return sorted(
        (counts for counts in numbers if 0 < sum(counts) <= BATCH_DRAFTS),
        key=lambda counts: (len(counts), sum(counts)),
    )


def turns(rows: Sequence[Row], by_position: bool = False) -> PrefixTree:
    """A tree whose distributions are taken in turn: the first at the start, then by the tokens (or
    the number) before.
    """

    def distribution(prefix: Prefix) -> Row:
        return rows[
            (
                len(prefix)
                if by_position
                else sum((at + 1) * (token + 1) for at, token in enumerate(prefix))
            )
            % len(rows)
        ]

    tree = PrefixTree(distribution)
    tree.by_position = by_position or len(rows) == 1
    return tree


def normalised(weights: Sequence[float]) -> Row:
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def _from_half_logits(eighths: Sequence[int]) -> Row:
    """The softmax of logits in half precision: ties and cut-off tails as engines have them, at most
    3 either way.
    """
    logits = np.asarray(eighths, dtype=np.float16) / np.float16(8)
    weights = np.exp(logits - logits.max())
    return normalised([float(weight) for weight in (weights / weights.sum(dtype=np.float16))])


def _related(distribution: Row, relation: str, swapped: bool) -> tuple[Row, Row]:
    other = RELATIONS[relation](distribution)
    return (other, distribution) if swapped else (distribution, other)


def _one_hot(distribution: Row) -> Row:
    return tuple(
        float(token == distribution.index(max(distribution))) for token in range(len(distribution))
    )


def _opposed(distribution: Row) -> Row:
    """High where the distribution is low."""
    return (
        normalised([max(distribution) + min(distribution) - weight for weight in distribution])
        if max(distribution) < 1
        else distribution[::-1]
    )


def _near(distribution: Row) -> Row:
    return normalised(
        [weight * (1 + SLIGHT * (-1) ** token) for token, weight in enumerate(distribution)]
    )


def _cut(distribution: Row) -> Row:
    """Top-k: the more likely half."""
    kept = sorted(range(len(distribution)), key=lambda token: -distribution[token])[
        : (len(distribution) + 1) // 2
    ]
    return normalised(
        [weight if token in kept else 0.0 for token, weight in enumerate(distribution)]
    )


def _rest(distribution: Row) -> Row:
    """Disjoint: what `_cut` leaves out, where that is anything."""
    kept = [
        0.0 if cut else weight for weight, cut in zip(distribution, _cut(distribution), strict=True)
    ]
    return (
        normalised(kept)
        if sum(kept) > 0
        else tuple(float(not weight) / distribution.count(0.0) for weight in distribution)
    )


def _sharper(distribution: Row) -> Row:
    """Temperature 1/2."""
    return normalised([weight**2 for weight in distribution])


RELATIONS: dict[str, Callable[[Row], Row]] = {
    "equal": lambda distribution: distribution,
    "near": _near,
    "one-hot": _one_hot,
    "opposed": _opposed,
    "disjoint": _rest,
    "top-k": _cut,
    "sharper": _sharper,
}
"""The second distribution of a pair, given the first."""
