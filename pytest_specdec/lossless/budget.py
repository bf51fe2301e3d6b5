"""False alarms of a whole session: a probability that is spent over its tests, however many there will be."""

from __future__ import annotations

import math

from ..errors import RequestError

SESSION = 1e-6
"""Probability that any of a session's sampled tests fails a lossless sampler."""


class Budget:
    """Error probabilities for one test after the other, which sum to `alpha`.

    The i-th gets alpha (f(i) - f(i + 1)) with f(i) = 1 / (1 + log2 i): the sum telescopes to alpha, and the parts fall
    hardly faster than 1 / i. The hundredth costs 7.6 nats of evidence more than the first; 1 / i^2 would take 9.2.
    """

    def __init__(self, alpha: float = SESSION) -> None:
        """Raises RequestError for an alpha that is no probability between 0 and 1."""
        check_alpha(alpha)
        self.alpha, self.spent = alpha, 0
        """The whole, and how many parts have been given out."""

    def next(self) -> float:
        """The next test's error probability."""
        self.spent += 1
        return self.alpha * (_left(self.spent) - _left(self.spent + 1))

    @property
    def left(self) -> float:
        """What has not been given out."""
        return self.alpha * _left(self.spent + 1)


def check_alpha(alpha: float) -> None:
    """Raises RequestError for an alpha that is no probability between 0 and 1."""
    if not 0 < alpha < 1:
        raise RequestError(f"alpha {alpha:g} is no error probability; choose one between 0 and 1")


def _left(count: int) -> float:
    return 1 / (1 + math.log2(count))
