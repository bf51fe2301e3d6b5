"""Random numbers as symbols: monotone functions of one draw each.

A comparison of a symbol with a number splits the path in two, and narrows the interval in which the
draw lies, so that the same draw stays consistent when it is compared again. Draws are continuous
here: what a sampler does on the grid of its floating-point uniforms, for example at exactly 0, is
not part of the distribution.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Hashable, Sequence
from typing import NoReturn, TypeGuard

from .monotone import Function, Monotone, exp, expm1, log, log1p
from .paths import NotEnumerableError, Paths

ADVICE = (
    "rewrite that step with comparisons, multinomial or an exponential race, "
    'or use method="sampled"'
)
_CLIPPED = 1e-6
"""A clamp that cuts off less probability than this keeps logarithms finite, and is taken for no
clamp at all.
"""
_PROPORTIONAL = 1e-5
"""How far, relatively, the hazards of a race may be from proportional; `-log(u + 1e-9)` is a clock
too.
"""


class SymbolicDraw:
    """One draw of a uniform on [0, 1) or, with `clock`, of a standard exponential, known to lie
    between two ends.
    """

    __slots__ = ("clock", "high", "low", "paths", "used", "what")

    def __init__(self, paths: Paths, what: str, *, clock: bool = False) -> None:
        self.paths, self.what, self.clock = paths, what, clock
        self.low, self.high = 0.0, math.inf if clock else 1.0
        self.used = ""
        """The race that this draw already took part in."""

    def mass(self, low: float, high: float) -> float:
        """Probability of an interval, before anything is known."""
        return math.exp(-low) - math.exp(-high) if self.clock else high - low

    def below(self, bound: float) -> bool:
        """Whether the draw lies below; splits the path where both is possible."""
        if bound <= self.low:
            return False
        if bound >= self.high:
            return True
        if self.used:
            raise NotEnumerableError(f"{self.what} is used again after {self.used}; {ADVICE}")
        share = self.mass(self.low, bound) / self.mass(self.low, self.high)
        if self.paths.choose((1.0 - share, share)):
            self.high = bound
            return True
        self.low = bound
        return False

    @property
    def narrowed(self) -> bool:
        return self.low > 0.0 or self.high < (math.inf if self.clock else 1.0)


class SymbolicValue:
    """A strictly monotone function of one draw. Comparing it with a number decides, arithmetic
    returns a SymbolicValue.
    """

    __slots__ = ("atom", "beaten", "function", "out")

    def __init__(self, atom: SymbolicDraw, function: Monotone) -> None:
        self.atom, self.function = atom, function
        self.beaten: tuple[SymbolicValue, ...] = ()
        """Values that this one won against in races of two."""
        self.out = False
        """Whether it lost such a race."""

    @classmethod
    def __torch_function__(
        cls, func: object, types: object, args: object = (), kwargs: object = None
    ) -> NoReturn:
        """Marks symbols for torch; the mode of torch_draws answers before this is ever called."""
        raise NotEnumerableError(f"a random number was kept beyond the call that drew it; {ADVICE}")

    def less(self, bound: float) -> bool:
        """Whether the value lies below a number; False for NaN, as for any float."""
        if bound != bound:
            return False
        return self.atom.below(self.function.inverse(bound)) is self.function.rising

    def more(self, bound: float) -> bool:
        return bound == bound and not self.less(bound)

    def log_below(self, bound: float) -> float:
        """log P(value <= bound), and that all values it has beaten are."""
        log_probability = self.function.log_below(bound)
        for other in self.beaten:
            log_probability += other.log_below(bound)
        return log_probability

    def negative(self) -> SymbolicValue:
        return SymbolicValue(self.atom, self.function.negative())

    def scaled(self, factor: float) -> SymbolicValue | float:
        if factor == 0 or not math.isfinite(factor):
            return factor * max(self.function.range, key=abs) if factor != 0 else 0.0
        return SymbolicValue(self.atom, self.function.scaled(factor))

    def shifted(self, term: float) -> SymbolicValue | float:
        if not math.isfinite(term):
            return term
        return SymbolicValue(self.atom, self.function.shifted(term))

    def reciprocal(self) -> SymbolicValue:
        low, high = self.function.range
        if low >= 0:
            return self._then(
                "reciprocal",
                lambda x: 1 / x if x else math.inf,
                lambda y: 1 / y if y > 0 else math.inf,
                False,
            )
        if high <= 0:
            return self._then(
                "reciprocal",
                lambda x: 1 / x if x else -math.inf,
                lambda y: 1 / y if y < 0 else -math.inf,
                False,
            )
        self.refuse("a division by it where it may have either sign")

    def power(self, exponent: float) -> SymbolicValue:
        if self.function.range[0] < 0 or exponent == 0 or not math.isfinite(exponent):
            self.refuse("this power of it")
        if exponent < 0:
            return self.reciprocal().power(-exponent)
        return self._then(
            ("power", exponent),
            lambda x: x**exponent,
            lambda y: y ** (1 / exponent) if y > 0 else -math.inf,
            True,
        )

    def log(self) -> SymbolicValue:
        self._above(0.0, "a logarithm")
        return self._then("log", log, exp, True)

    def log1p(self) -> SymbolicValue:
        self._above(-1.0, "log1p()")
        return self._then("log1p", log1p, expm1, True)

    def _above(self, bound: float, use: str) -> None:
        """Guards such as the one in log(u + 1e-10) leave a little probability below the bound,
        which does not count.
        """
        if self.function.range[0] < bound and math.exp(self.log_below(bound)) > _CLIPPED:
            self.refuse(f"{use} where it may be below {bound:g}")

    def exp(self) -> SymbolicValue:
        return self._then("exp", exp, log, True)

    def expm1(self) -> SymbolicValue:
        return self._then("expm1", expm1, log1p, True)

    def sqrt(self) -> SymbolicValue:
        return self.power(0.5)

    def clamped(self, low: float | None, high: float | None) -> SymbolicValue | float:
        """Splits the path where a bound cuts off more than guards of logarithms do."""
        if low is not None and math.exp(self.log_below(low)) > _CLIPPED and self.less(low):
            return low
        if high is not None and -math.expm1(self.log_below(high)) > _CLIPPED and self.more(high):
            return high
        return self

    def refuse(self, use: str) -> NoReturn:
        raise NotEnumerableError(
            f"{self.atom.what} goes into {use}, which cannot be enumerated; {ADVICE}"
        )

    def _then(
        self, step: Hashable, forward: Function, inverse: Function, rising: bool
    ) -> SymbolicValue:
        return SymbolicValue(self.atom, self.function.then(step, forward, inverse, rising))

    def _sum(self, other: object) -> SymbolicValue | float:
        return self.shifted(float(other)) if _number(other) else self._unknown(other, "a sum")

    def _product(self, other: object) -> SymbolicValue | float:
        return self.scaled(float(other)) if _number(other) else self._unknown(other, "a product")

    def _unknown(self, other: object, use: str) -> SymbolicValue | float:
        """NotImplemented for arrays, which then take the operation element by element."""
        if isinstance(other, SymbolicValue):
            self.refuse(f"{use} with another draw")
        return NotImplemented  # type: ignore[no-any-return]

    __add__ = __radd__ = _sum
    __mul__ = __rmul__ = _product

    def __neg__(self) -> SymbolicValue:
        return self.negative()

    def __sub__(self, other: object) -> SymbolicValue | float:
        return (
            self.shifted(-float(other)) if _number(other) else self._unknown(other, "a difference")
        )

    def __rsub__(self, other: object) -> SymbolicValue | float:
        return self.negative()._sum(other)

    def __truediv__(self, other: object) -> SymbolicValue | float:
        if not _number(other):
            return self._unknown(other, "a quotient")
        divisor = float(other)
        return self.scaled(1 / divisor) if divisor else math.copysign(math.inf, divisor)

    def __rtruediv__(self, other: object) -> SymbolicValue | float:
        return self.reciprocal()._product(other)

    def __pow__(self, other: object) -> SymbolicValue | float:
        return self.power(float(other)) if _number(other) else self._unknown(other, "a power")

    def __lt__(self, other: object) -> bool:
        if isinstance(other, SymbolicValue):
            return other is not self and winner([other, self]) is other
        return self.less(float(other)) if _number(other) else NotImplemented

    def __gt__(self, other: object) -> bool:
        if isinstance(other, SymbolicValue):
            return other is not self and winner([other, self]) is self
        return self.more(float(other)) if _number(other) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self is other or self.__lt__(other)

    def __ge__(self, other: object) -> bool:
        return self is other or self.__gt__(other)

    def __eq__(self, other: object) -> bool:
        return (
            self is other if isinstance(other, SymbolicValue) or _number(other) else NotImplemented
        )

    def __ne__(self, other: object) -> bool:
        return (
            self is not other
            if isinstance(other, SymbolicValue) or _number(other)
            else NotImplemented
        )

    __hash__ = object.__hash__

    def __float__(self) -> float:
        self.refuse("float(), where only .item() keeps track of it")

    def __int__(self) -> int:
        self.refuse("int()")

    def __bool__(self) -> bool:
        self.refuse("a condition of its own")

    def _rounded(self, *_: object) -> NoReturn:
        self.refuse("a rounding or a remainder")

    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = __rdivmod__ = _rounded
    __abs__ = __round__ = __floor__ = __ceil__ = __trunc__ = _rounded

    def __rpow__(self, other: object) -> NoReturn:
        self.refuse("an exponent")


def winner(values: Sequence[SymbolicValue]) -> SymbolicValue:
    """The larger of two clocks, decided now; it stands for both in a race with a third."""
    first, second = values
    weights = hazards([first, second])
    mine = weights[0] / math.fsum(weights)
    won, lost = (second, first) if first.atom.paths.choose((mine, 1 - mine)) else (first, second)
    won.beaten = (*won.beaten, lost)
    lost.out = True
    for value in values:
        value.atom.used = "a comparison with another draw"
    return won


def hazards(values: Sequence[SymbolicValue]) -> list[float]:
    """How fast each clock runs: -log P(value <= t) at a time t, checked to be in proportion at
    others.

    Raises NotEnumerableError for values that are not independent clocks of one race.
    """
    for value in values:
        if value.out or (value.atom.used and not value.beaten):
            raise NotEnumerableError(
                f"{value.atom.what} is used again after {value.atom.used}; {ADVICE}"
            )
        if value.atom.narrowed:
            value.refuse("an arg-max after it was compared")
    if len({id(value.atom) for value in values}) < len(values):
        values[0].refuse("an arg-max of several functions of one draw")
    race = tuple(value.function for value in values)
    if any(value.beaten for value in values):
        return _proportional(values)
    known = race[0].hazards.get(race)
    if known is None:
        known = race[0].hazards[race] = _proportional(values)
    return known


def _proportional(values: Sequence[SymbolicValue]) -> list[float]:
    fastest = max((value.function for value in values), key=lambda function: function.at(0.5))
    times = [fastest.at(share) for share in (0.5, 0.3, 0.7)]
    middle, *others = [[-value.log_below(time) for value in values] for time in times]
    total = math.fsum(middle)
    for row in others:
        scale = math.fsum(row) / total
        if not all(
            abs(hazard - scale * other) <= _PROPORTIONAL * math.fsum(row)
            for hazard, other in zip(row, middle, strict=True)
        ):
            values[0].refuse("an arg-max that is not a race of exponential or Gumbel clocks")
    return middle


def _number(other: object) -> TypeGuard[numbers.Real]:
    return type(other) is float or isinstance(other, numbers.Real)
