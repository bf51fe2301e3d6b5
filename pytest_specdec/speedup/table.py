"""Speed-up over k: where the next step still pays, and what it would have to accept to pay. Plain
Python.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping

from ..cases.drafter import DRAFT
from .cost_profile import CostProfile
from .formulas import theoretical_speedup

_LARGEST = 600.0
"""Largest logarithm of an interval's factor: its exponential is still a number."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One k of a table; times in milliseconds."""

    k: int
    length: float
    round_ms: float
    speedup: float
    marginal: float
    """Speed-up over that of the k before; of the first k, over no drafting at all."""
    best: bool
    interval: tuple[float, float] | None = None
    """95 % interval of the speed-up, where the lengths came with their standard errors."""
    extrapolated: bool = False
    """Whether its times lie on a line through measured ones, outside their range."""

    @property
    def pays(self) -> bool:
        """Whether this k is faster than the one before."""
        return self.marginal > 1


def speedup_table(
    lengths: Mapping[int, float],
    costs: CostProfile,
    *,
    depth: int = 0,
    drafter: str = DRAFT,
    errors: Mapping[int, float] | None = None,
) -> tuple[Step, ...]:
    """The steps of growing k from the acceptance length at each, and its standard error where it is
    known.

    Raises ValueError for no lengths or a profile without `target_ms`, CostError for a k or depth it
    does not cover.
    """
    if not lengths or costs.target_ms is None:
        raise ValueError(
            "a table needs acceptance lengths and the profile's target_ms; pass {k: acceptance "
            "length}"
        )
    times = {
        k: (costs.verify_ms(k), costs.draft_ms(k, depth, drafter=drafter)) for k in sorted(lengths)
    }
    speedups = {
        k: theoretical_speedup(
            lengths[k], target_ms=costs.target_ms, verify_ms=verify, draft_ms=draft
        )
        for k, (verify, draft) in times.items()
    }
    best = max(speedups, key=lambda k: speedups[k])
    before = [1.0, *speedups.values()]
    steps = []
    for (k, speedup), previous in zip(speedups.items(), before, strict=False):
        interval = (
            None
            if errors is None
            else speedup_interval(speedup, lengths[k], errors[k], costs.relative_error)
        )
        known = k not in costs.extrapolated
        steps.append(
            Step(
                k,
                lengths[k],
                sum(times[k]),
                speedup,
                speedup / previous,
                k == best,
                interval,
                not known,
            )
        )
    return tuple(steps)


def speedup_interval(
    speedup: float, length: float, error: float, timing_error: float
) -> tuple[float, float]:
    """95 % interval of a speed-up from the standard errors of the length and, relative, of a time.

    The delta method on the logarithm, so that both bounds are positive, as a ratio is. The target's
    step and the round are timed apart, so the timing's relative error enters twice.
    """
    relative = math.sqrt((error / length) ** 2 + 2 * timing_error**2)
    return positive_interval(speedup, relative)


def positive_interval(
    ratio: float, relative_error: float, level: float = 0.025
) -> tuple[float, float]:
    """Interval of a positive ratio, symmetric on the logarithmic scale; each end is missed with
    probability `level`.
    """
    factor = math.exp(min(-statistics.NormalDist().inv_cdf(level) * relative_error, _LARGEST))
    return (ratio / factor, ratio * factor)


def break_even(length: float, survival: float, *, round_ms: float, next_round_ms: float) -> float:
    """The conditional acceptance at which one more draft step leaves throughput as it is.

    At `length` tokens per round of `round_ms`, a step that is reached with probability `survival`
    and accepted with probability c adds survival * c tokens and makes the round `next_round_ms`
    long; it pays for c above

        length * (next_round_ms / round_ms - 1) / survival.

    A value above 1 is not a probability: the step never pays, even if it were always accepted.
    Raises ValueError for times or a survival that are not positive.
    """
    if min(round_ms, next_round_ms, survival) <= 0:
        raise ValueError("times and survival must be positive; pass milliseconds and a fraction")
    return max(0.0, length * (next_round_ms / round_ms - 1) / survival)
