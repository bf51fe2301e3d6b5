"""hypothesis strategies for what a verifier is given: laws, prefix trees of laws, rounds and batches of them.

Everything is built from small whole numbers, so that failures shrink to laws such as [1, 0] and [0.5, 0.5].
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st

from .exact import Round
from .exact_batch import Batch
from .prefix_tree import Prefix, PrefixTree, Row

VOCAB_SIZES, DRAFTS = (2, 6), (1, 5)
"""The least and the greatest vocabulary size and number of drafts of `rounds`."""
HEAVIEST = 12
"""Laws are weights from 0 to this, normalised."""
BATCH_ROWS, BATCH_DRAFTS = (2, 3), 3
"""Rows of `batches`, and the most drafts of all of them."""
SLIGHT = 1e-4
"""How far, relatively, the probabilities of near-equal laws are apart."""
Ints = int | tuple[int, int]


def laws(vocab_size: int) -> st.SearchStrategy[Row]:
    """Laws (V,) with zeros, ties, one-hot ones, and ones as half-precision logits give them."""
    weights = st.lists(st.integers(0, HEAVIEST), min_size=vocab_size, max_size=vocab_size).filter(any)
    logits = st.lists(st.integers(-24, 24), min_size=vocab_size, max_size=vocab_size)
    return weights.map(normalised) | logits.map(_from_half_logits)


def pairs(vocab_size: int) -> st.SearchStrategy[tuple[Row, Row]]:
    """A target's and a drafter's law p and q (V,): unrelated, or related in one of the ways that samplers get wrong."""
    return st.tuples(laws(vocab_size), laws(vocab_size)) | st.builds(
        _related, laws(vocab_size), st.sampled_from(sorted(RELATIONS)), st.booleans()
    )


def trees(vocab_size: int, *, by_position: bool = False) -> st.SearchStrategy[PrefixTree]:
    """A PrefixTree of up to three laws that take turns over prefixes, or over positions alone."""
    return st.lists(laws(vocab_size), min_size=1, max_size=3).map(lambda rows: turns(rows, by_position))


def rounds(vocab_size: Ints = VOCAB_SIZES, k: Ints = DRAFTS, *, by_position: bool = False) -> st.SearchStrategy[Round]:
    """What `output_law` and `assert_lossless` give a sampler. Sizes are numbers or (least, greatest)."""
    sizes, drafts = (st.just(one) if isinstance(one, int) else st.integers(*one) for one in (vocab_size, k))
    return st.tuples(sizes, drafts).flatmap(lambda both: _rounds(*both, by_position))


def _rounds(vocab_size: int, k: int, by_position: bool) -> st.SearchStrategy[Round]:
    def built(rows: list[tuple[Row, Row]]) -> Round:
        target, draft = zip(*rows, strict=True)
        return Round(turns(target, by_position), turns(draft, by_position), k)

    return st.lists(pairs(vocab_size), min_size=1, max_size=3).map(built)


def batches(vocab_size: Ints = (2, 3), k: int = 3, *, by_position: bool = False) -> st.SearchStrategy[Batch]:
    """Rows with 0 to k drafts, each with laws of its own, in one call; no more of them than can be enumerated."""
    sizes = st.just(vocab_size) if isinstance(vocab_size, int) else st.integers(*vocab_size)
    return st.tuples(sizes, st.sampled_from(_ragged(k))).flatmap(
        lambda both: st.tuples(*(_rounds(both[0], drafts, by_position) for drafts in both[1])).map(Batch)
    )


def _ragged(k: int) -> list[tuple[int, ...]]:
    """Numbers of drafts of two or three rows, the least first; at least one has a draft."""
    numbers = [one for rows in BATCH_ROWS for one in itertools.product(range(k + 1), repeat=rows)]
    return sorted((one for one in numbers if 0 < sum(one) <= BATCH_DRAFTS), key=lambda one: (len(one), sum(one)))


def turns(rows: Sequence[Row], by_position: bool = False) -> PrefixTree:
    """A tree whose laws are taken in turn: the first at the start, then by the tokens (or the number) before."""

    def law(prefix: Prefix) -> Row:
        return rows[(len(prefix) if by_position else sum((at + 1) * (token + 1) for at, token in enumerate(prefix))) % len(rows)]

    tree = PrefixTree(law)
    tree.by_position = by_position or len(rows) == 1
    return tree


def normalised(weights: Sequence[float]) -> Row:
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def _from_half_logits(eighths: Sequence[int]) -> Row:
    """The softmax of logits in half precision: ties and cut-off tails as engines have them, at most 3 either way."""
    logits = np.asarray(eighths, dtype=np.float16) / np.float16(8)
    weights = np.exp(logits - logits.max())
    return normalised([float(weight) for weight in (weights / weights.sum(dtype=np.float16))])


def _related(law: Row, relation: str, swapped: bool) -> tuple[Row, Row]:
    other = RELATIONS[relation](law)
    return (other, law) if swapped else (law, other)


def _one_hot(law: Row) -> Row:
    return tuple(float(token == law.index(max(law))) for token in range(len(law)))


def _opposed(law: Row) -> Row:
    """High where the law is low."""
    return normalised([max(law) + min(law) - weight for weight in law]) if max(law) < 1 else law[::-1]


def _near(law: Row) -> Row:
    return normalised([weight * (1 + SLIGHT * (-1) ** token) for token, weight in enumerate(law)])


def _cut(law: Row) -> Row:
    """Top-k: the more likely half."""
    kept = sorted(range(len(law)), key=lambda token: -law[token])[: (len(law) + 1) // 2]
    return normalised([weight if token in kept else 0.0 for token, weight in enumerate(law)])


def _rest(law: Row) -> Row:
    """Disjoint: what `_cut` leaves out, where that is anything."""
    kept = [0.0 if cut else weight for weight, cut in zip(law, _cut(law), strict=True)]
    return normalised(kept) if sum(kept) > 0 else tuple(float(not weight) / law.count(0.0) for weight in law)


def _sharper(law: Row) -> Row:
    """Temperature 1/2."""
    return normalised([weight**2 for weight in law])


RELATIONS: dict[str, Callable[[Row], Row]] = {
    "equal": lambda law: law,
    "near": _near,
    "one-hot": _one_hot,
    "opposed": _opposed,
    "disjoint": _rest,
    "top-k": _cut,
    "sharper": _sharper,
}
"""The second law of a pair, given the first."""
