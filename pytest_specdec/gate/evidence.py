"""An e-process: evidence against "nothing changed" that may be looked at after every run, and
stopped at any time.

Run t is tested against all runs before it (the baseline's and those accumulated earlier). If
nothing changed these are exchangeable, and then the p-values of successive runs, ties broken by
chance, are independent and uniform (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random
World, theorem 8.2). Each is turned into an e-value, whose expectation is one. The product of
e-values since a run s, averaged over s, is a martingale that starts at one: by Ville's inequality
it ever reaches 1 / level with probability `level` at most. A gate that is merely run again until it
passes has no such bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The e-process after some runs."""

    values: tuple[float, ...]
    """Its value after each run."""
    since: int
    """1-based index of the most likely change point: the run from which the product of e-values is
    largest.
    """

    @property
    def value(self) -> float:
        """Its value after the last run."""
        return self.values[-1] if self.values else 1.0

    @property
    def highest(self) -> float:
        """The highest value so far: what has been rejected stays rejected."""
        return max((1.0, *self.values))


def bet(p_value: float) -> float:
    """A p-value's e-value, the mixture of k p^(k-1) over k in (0, 1): (1 - p + p ln p) / (p ln^2
    p).

    Its mean over a uniform p is one (Vovk and Wang, E-values: calibration, combination and
    applications, 2021).
    """
    p = min(max(p_value, 1e-300), 1.0)
    log = math.log(p)
    if log > -1e-4:
        return 0.5 - log / 6  # the limit at 1, where the formula is 0 / 0
    return (1 - p + p * log) / (p * log * log)


def accumulate(p_values: Sequence[float]) -> Evidence:
    """The e-process over the p-values of runs 1, 2, ...

    A change from run s on has prior weight 1 / (s (s + 1)), so many unchanged runs before it cost
    little evidence.
    """
    products: list[float] = []
    values: list[float] = []
    for run, p in enumerate(p_values, 1):
        products = [product * bet(p) for product in (*products, 1.0)]
        weighed = (product / (start * (start + 1)) for start, product in enumerate(products, 1))
        values.append(math.fsum(weighed) + 1 / (run + 1))
    since = 1 + max(range(len(products)), key=products.__getitem__, default=0)
    return Evidence(values=tuple(values), since=since)
