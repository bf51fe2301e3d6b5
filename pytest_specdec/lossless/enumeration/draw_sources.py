"""Where a sampler's draws come from while it is under test: symbols to be followed, or forced
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from .lazy_token import Cell, token
from .monotone import Monotone
from .paths import NotEnumerableError, Paths
from .symbols import SymbolicDraw, SymbolicValue

UNSUPPORTED = (
    "has no exact enumeration yet; draw uniforms, exponentials or multinomials instead, "
    'or use method="sampled"'
)

SMALL = 2**-10
"""A uniform at which nearly every draft is accepted."""


class DrawSource(Protocol):
    """Answers the draws that torch_draws and numpy_draws intercept; `what` names the draw in
    messages.
    """

    def uniform(self, what: str) -> Cell: ...

    def exponential(self, what: str) -> Cell: ...

    def categorical(self, weights: Sequence[float], what: str) -> Cell:
        """An index; the weights are non-negative, of any positive total."""


class SymbolicDraws:
    """Symbols on the current path."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._uniform, self._clock = Monotone.draw(clock=False), Monotone.draw(clock=True)

    def uniform(self, what: str) -> Cell:
        return SymbolicValue(SymbolicDraw(self.paths, what), self._uniform)

    def exponential(self, what: str) -> Cell:
        return SymbolicValue(SymbolicDraw(self.paths, what, clock=True), self._clock)

    def categorical(self, weights: Sequence[float], what: str) -> Cell:
        return token(self.paths, weights)


class ForcedDraws:
    """One uniform at a given value and all others small, so that drafts are accepted; other draws
    at their most likely.
    """

    def __init__(self) -> None:
        self.restart(0, SMALL)

    def restart(self, at: int, value: float) -> None:
        """Begin a call. `at`: the number of the uniform that has the value, from 0."""
        self._at, self._value, self.drawn = at, value, 0

    def uniform(self, what: str) -> Cell:
        self.drawn += 1
        return self._value if self.drawn == self._at + 1 else SMALL

    def exponential(self, what: str) -> Cell:
        return math.log(2)

    def categorical(self, weights: Sequence[float], what: str) -> Cell:
        return max(range(len(weights)), key=weights.__getitem__)


def unsupported(what: str) -> NotEnumerableError:
    return NotEnumerableError(f"{what} {UNSUPPORTED}")
