"""Drawn tokens that are not decided before something depends on them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import NoReturn, SupportsIndex

from .paths import NotEnumerableError, Paths
from .symbols import ADVICE, SymbolicValue, hazards


class LazyToken:
    """A choice among whole numbers, decided only when something depends on it."""

    __slots__ = ("paths", "weights")

    def __init__(self, paths: Paths, weights: dict[int, float]) -> None:
        """`weights`: the probability of each outcome that is still possible."""
        self.paths, self.weights = paths, weights

    @classmethod
    def __torch_function__(
        cls, func: object, types: object, args: object = (), kwargs: object = None
    ) -> NoReturn:
        """Marks symbols for torch, see SymbolicValue."""
        raise NotEnumerableError(f"a token was kept beyond the call that drew it; {ADVICE}")

    def decide(self) -> int:
        if len(self.weights) > 1:
            outcomes = list(self.weights)
            self.weights = {outcomes[self.paths.choose(list(self.weights.values()))]: 1.0}
        return next(iter(self.weights))

    def equals(self, number: float) -> bool:
        """Decides only whether it is this number."""
        share = next((weight for outcome, weight in self.weights.items() if outcome == number), 0.0)
        if share == 0.0 or len(self.weights) == 1:
            return share > 0.0
        if self.paths.choose((1.0 - share, share)):
            self.weights = {int(number): 1.0}
            return True
        rest = {outcome: weight for outcome, weight in self.weights.items() if outcome != number}
        mass = sum(rest.values())
        self.weights = {outcome: weight / mass for outcome, weight in rest.items()}
        return False

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazyToken):
            return other is self or self.equals(other.decide())
        return self.equals(float(other)) if isinstance(other, numbers.Real) else NotImplemented

    def __ne__(self, other: object) -> bool:
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    def __index__(self) -> int:
        return self.decide()

    __int__ = __index__

    def __hash__(self) -> int:
        return hash(self.decide())

    def __float__(self) -> float:
        return float(self.decide())

    def __bool__(self) -> bool:
        return not self.equals(0)

    def __lt__(self, other: float | SupportsIndex) -> bool:
        return self.decide() < _plain(other)

    def __le__(self, other: float | SupportsIndex) -> bool:
        return self.decide() <= _plain(other)

    def __gt__(self, other: float | SupportsIndex) -> bool:
        return self.decide() > _plain(other)

    def __ge__(self, other: float | SupportsIndex) -> bool:
        return self.decide() >= _plain(other)

    def __add__(self, other: float | SupportsIndex) -> float:
        return self.decide() + _plain(other)

    def __sub__(self, other: float | SupportsIndex) -> float:
        return self.decide() - _plain(other)

    def __mul__(self, other: float | SupportsIndex) -> float:
        return self.decide() * _plain(other)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float | SupportsIndex) -> float:
        return _plain(other) - self.decide()

    def __neg__(self) -> int:
        return -self.decide()

    def __abs__(self) -> int:
        return abs(self.decide())

    def __floordiv__(self, other: float | SupportsIndex) -> float:
        return self.decide() // _plain(other)

    def __mod__(self, other: float | SupportsIndex) -> float:
        return self.decide() % _plain(other)

    def __truediv__(self, other: float | SupportsIndex) -> float:
        return self.decide() / _plain(other)

    def __format__(self, spec: str) -> str:
        return format(self.decide(), spec)

    def __repr__(self) -> str:
        return repr(self.decide())


Cell = SymbolicValue | LazyToken | float | bool
"""What stands at one place of an array of random numbers."""


def token(paths: Paths, weights: Sequence[float]) -> LazyToken | int:
    """A draw among the indices of non-negative weights of any positive total."""
    total = math.fsum(weights)
    possible = {index: weight / total for index, weight in enumerate(weights) if weight > 0}
    return LazyToken(paths, possible) if len(possible) > 1 else next(iter(possible))


def race(cells: Sequence[Cell]) -> LazyToken | int:
    """The arg-max of independent clocks, such as w / E or log w - log E with standard exponentials
    E.

    Clocks are recognised by what they are: values whose log P(value <= t) are in a fixed proportion
    for all t, which is the proportion of their chances. Numbers among them must win or lose for
    certain.
    """
    values = {index: cell for index, cell in enumerate(cells) if isinstance(cell, SymbolicValue)}
    fixed = {
        index: float(cell)
        for index, cell in enumerate(cells)
        if not isinstance(cell, SymbolicValue)
    }
    if fixed:
        best = max(fixed, key=fixed.__getitem__)
        chances = [math.exp(value.log_below(fixed[best])) for value in values.values()]
        if all(chance == 1.0 for chance in chances):
            return best
        if any(chance > 0.0 for chance in chances):
            next(iter(values.values())).refuse(
                "an arg-max against a number that it may exceed or not"
            )
    names, entrants = list(values), list(values.values())
    if len(entrants) == 1:
        return names[0]
    weights = hazards(entrants)
    for value in entrants:
        value.atom.used = "the arg-max that it took part in"
    total = math.fsum(weights)
    possible = {
        name: weight / total for name, weight in zip(names, weights, strict=True) if weight > 0
    }
    return (
        LazyToken(entrants[0].atom.paths, possible) if len(possible) > 1 else next(iter(possible))
    )


def _plain(other: float | SupportsIndex) -> float:
    if isinstance(other, float):
        return other
    return other.__index__()
