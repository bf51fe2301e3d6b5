"""False alarms of sampled checks: a fixed share for each call, so that no test depends on which
others ran before it.
"""

from __future__ import annotations

from ..common.errors import RequestError

SESSION, CALLS = 1e-6, 100
"""Probability that any of so many sampled calls of a session fails a lossless sampler."""
CALL = SESSION / CALLS
"""Of one call; a session of n calls errs with n times this at most, in whatever order and process
they run.
"""


def check_alpha(alpha: float) -> None:
    """Raises RequestError for an alpha outside (0, 1)."""
    if not 0 < alpha < 1:
        raise RequestError(
            f"alpha {alpha:g} is not an error probability; choose one between 0 and 1"
        )
