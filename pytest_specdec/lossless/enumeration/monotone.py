"""Strictly monotone functions of one draw, kept with what has been asked of them.

A sampler is run once for every path, and does the same to its draws each time. Each function keeps
those made from it, so that a step taken again is a look-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable

Function = Callable[[float], float]
Race = tuple["Monotone", ...]


class Monotone:
    """A strictly monotone function of one uniform on [0, 1) or, with `clock`, of one standard
    exponential.
    """

    __slots__ = (
        "_log_below",
        "_range",
        "_then",
        "clock",
        "forward",
        "hazards",
        "inverse",
        "rising",
    )

    def __init__(self, clock: bool, forward: Function, inverse: Function, rising: bool) -> None:
        """`inverse` must be defined everywhere: beyond the function's range it returns an infinity
        that orders rightly.
        """
        self.clock, self.forward, self.inverse, self.rising = clock, forward, inverse, rising
        self.hazards: dict[Race, list[float]] = {}
        """How fast the clocks of races run that this one takes part in first."""
        self._then: dict[Hashable, Monotone] = {}
        self._log_below: dict[float, float] = {}
        self._range: tuple[float, float] | None = None

    @classmethod
    def draw(cls, *, clock: bool) -> Monotone:
        """The draw itself."""
        return cls(clock, same, same, True)

    def then(self, step: Hashable, forward: Function, inverse: Function, rising: bool) -> Monotone:
        """This function and another one after it, which `step` names."""
        known = self._then.get(step)
        if known is None:
            first, back = self.forward, self.inverse
            known = self._then[step] = (
                Monotone(self.clock, forward, inverse, rising)
                if first is same
                else Monotone(
                    self.clock,
                    lambda x: forward(first(x)),
                    lambda y: back(inverse(y)),
                    rising is self.rising,
                )
            )
        return known

    def negative(self) -> Monotone:
        return self._then.get("negative") or self.then("negative", negative, negative, False)

    def scaled(self, factor: float) -> Monotone:
        """`factor` is finite and not 0."""
        return self._then.get(("scaled", factor)) or self.then(
            ("scaled", factor), lambda x: x * factor, lambda y: y / factor, factor > 0
        )

    def shifted(self, term: float) -> Monotone:
        """`term` is finite."""
        return self._then.get(("shifted", term)) or self.then(
            ("shifted", term), lambda x: x + term, lambda y: y - term, True
        )

    @property
    def range(self) -> tuple[float, float]:
        """What lies between the images of the ends of the draw."""
        if self._range is None:
            ends = [self.forward(end) for end in (0.0, math.inf if self.clock else 1.0)]
            self._range = min(ends), max(ends)
        return self._range

    def at(self, share: float) -> float:
        """What the draw's quantile of this share is mapped to."""
        return self.forward(-math.log1p(-share) if self.clock else share)

    def log_below(self, bound: float) -> float:
        """log P(value <= bound)."""
        known = self._log_below.get(bound)
        if known is None:
            known = self._log_below[bound] = self._logarithm(bound)
        return known

    def _logarithm(self, bound: float) -> float:
        at = self.inverse(bound)
        if self.clock:
            at = max(at, 0.0)
            return log(-math.expm1(-at)) if self.rising else -at
        at = min(max(at, 0.0), 1.0)
        return log(at) if self.rising else log1p(-at)


def same(x: float) -> float:
    return x


def negative(x: float) -> float:
    return -x


def log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def log1p(x: float) -> float:
    return math.log1p(x) if x > -1 else -math.inf


def exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def expm1(x: float) -> float:
    return math.expm1(x) if x < 700 else math.inf
