"""Rounds to try a sampler on: many, and of those on which it is wrong the smallest."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample

from ..enumeration.paths import UNSTEADY, NotEnumerableError
from .exact import RoundInput
from .exact_batch import BatchInput
from .sampler import Sampler
from .strategies import Ints, batches, normalised, rounds, turns

BATCH_VOCABULARY = 3
"""Most tokens of batches of ragged rows, whose distributions multiply."""
_STEEP = 0.6
"""Each probability of `opposed_round` over the one before."""


Tried = TypeVar("Tried")


def smallest_round(
    sampler: Sampler,
    vocab_size: int,
    k: int,
    wrong: Callable[[RoundInput], bool],
    most: int,
    seed: int,
) -> RoundInput | None:
    """A round that is wrong, shrunk by hypothesis; None if none of so many is. Raises
    NotEnumerableError, see `smallest`.
    """
    return smallest(_rounds(sampler, (2, vocab_size), (1, k)), wrong, most, seed)


def smallest_batch(
    sampler: Sampler,
    vocab_size: int,
    k: int,
    wrong: Callable[[BatchInput], bool],
    most: int,
    seed: int,
) -> BatchInput | None:
    """`smallest_round` for batches of ragged rows."""
    sizes = 2, min(vocab_size, BATCH_VOCABULARY)
    return smallest(batches(sizes, k, by_position=sampler.drafts == "own"), wrong, most, seed)


def smallest(
    strategy: st.SearchStrategy[Tried], wrong: Callable[[Tried], bool], most: int, seed: int
) -> Tried | None:
    """An example that is wrong, shrunk; None if none of `most` is. Raises NotEnumerableError where
    one could not be judged and no other is wrong.
    """
    unable: list[NotEnumerableError] = []

    def judged(given: Tried) -> bool:
        try:
            return not unable and wrong(given)
        except NotEnumerableError as error:
            unable.append(error)
            return False

    example = _find(strategy, judged, most, seed, (Phase.generate, Phase.shrink))
    if example is None and unable:
        raise unable[0]
    return example


def drawn_rounds(
    sampler: Sampler, vocab_size: int, k: int, count: int, seed: int
) -> list[RoundInput]:
    """So many rounds, with the whole vocabulary and all drafts."""
    if not count:
        return []
    drawn: list[RoundInput] = []

    def keep(given: RoundInput) -> bool:
        drawn.append(given)
        return False

    _find(_rounds(sampler, vocab_size, k), keep, 2 * count, seed, (Phase.generate,))
    return drawn[-count:]


def opposed_round(vocab_size: int, k: int) -> RoundInput:
    """A target that falls from token to token, and a drafter that rises: most drafts are rejected,
    where biases show.
    """
    falling = normalised([_STEEP**token for token in range(vocab_size)])
    return RoundInput(turns([falling]), turns([falling[::-1]]), k)


def _rounds(sampler: Sampler, vocab_size: Ints, k: Ints) -> st.SearchStrategy[RoundInput]:
    return rounds(vocab_size, k, by_position=sampler.drafts == "own")


def _find(
    strategy: st.SearchStrategy[Tried],
    wanted: Callable[[Tried], bool],
    most: int,
    seed: int,
    phases: tuple[Phase, ...],
) -> Tried | None:
    quiet = settings(
        max_examples=most,
        phases=phases,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        return find(strategy, wanted, settings=quiet, random=Random(seed))  # noqa: S311  # reproducible, not secret
    except NoSuchExample:
        return None
    except Flaky:  # the same round was wrong, and then was not
        raise NotEnumerableError(UNSTEADY) from None
