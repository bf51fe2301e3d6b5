"""Draws at the ends of their range, which the exact distribution leaves out: u = 0, and the largest
u below 1.

torch.rand gives 0 once in 2^24 draws, in half precision once in 2^8 to 2^11, and a sampler that
then accepts or draws a token of probability 0 has emitted what the target never would
(sgl-project/sglang#35771).
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from ...common.errors import SpecdecError
from ..enumeration.draw_sources import ForcedDraws
from .exact import RoundInput, intercepted
from .prefix_tree import Prefix
from .sampler import ContractError, Inputs, Sampler, check_emitted

TOP = 1 - 2**-53
"""Rounded down to the largest number below 1 of the type that is drawn."""
ENDS = {"at 0": 0.0, "at its largest": TOP}
MOST_DRAFTS, MOST_DRAWS = 4, 16
"""Drafts of a round, and uniforms of a call, that are tried."""


def check_boundary(sampler: Sampler, given: RoundInput) -> None:
    """Put one uniform after the other at an end. Raises ContractError for a token that the target
    never emits.
    """
    source, cases = ForcedDraws(), itertools.product(_tried(sampler, given), ENDS.items())
    with intercepted(source, sampler) as (generator, torchs):
        for drafts, (name, end) in cases:
            inputs = given.inputs(sampler, drafts)
            for at in range(MOST_DRAWS):
                source.restart(at, end)
                torchs.restart()
                it = f"with uniform {at + 1} {name} it"
                _check_possible(_emitted(sampler, inputs, generator, it), drafts, given, it)
                if at + 1 >= source.drawn:
                    break


def _emitted(sampler: Sampler, inputs: Inputs, generator: Any, it: str) -> list[int]:
    try:
        return [int(token) for token in sampler.call(sampler.copies(inputs), generator)]
    except SpecdecError:
        raise
    except Exception as crash:
        raise ContractError(
            f"{it} raised {type(crash).__name__}: {crash}; guard logarithms and divisions"
        ) from crash


def _tried(sampler: Sampler, given: RoundInput) -> list[Prefix | None]:
    """Those drafts that the target can least emit."""
    possible = [drafts for drafts, _ in given.drafted(sampler)]
    return sorted(possible, key=lambda drafts: _unlikely(drafts, given))[:MOST_DRAFTS]


def _unlikely(drafts: Prefix | None, given: RoundInput) -> float:
    if drafts is None:
        return 0.0
    return math.prod(given.target.row(drafts[:at])[token] for at, token in enumerate(drafts))


def _check_possible(emitted: list[int], drafts: Prefix | None, given: RoundInput, it: str) -> None:
    check_emitted(emitted, drafts, given.k, given.target.vocab_size, it)
    for at, token in enumerate(emitted):
        if given.target.row(tuple(emitted[:at]))[token] == 0:
            raise ContractError(
                f"{it} emitted {emitted}, where the target gives token {token} probability 0; "
                "accept with u < p / q, not <=, and draw recovered tokens only from those with a "
                "positive probability"
            )
