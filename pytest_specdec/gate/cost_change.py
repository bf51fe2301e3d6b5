"""The costs of a case in its baseline and now."""

from __future__ import annotations

import dataclasses
import math

from ..common.percent import signed_percent
from ..records.case_costs import CaseCosts

DRIFT = 0.02
"""Standard deviation allowed to a ratio of times from one process to the next, beyond what the
turns within each show.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostChange:
    """The costs of a case in its baseline and now."""

    before: CaseCosts
    now: CaseCosts

    @property
    def drop(self) -> float:
        """Relative fall of the speed-up at an unchanged acceptance length."""
        return 1 - self.now.speedup(1.0) / self.before.speedup(1.0)

    @property
    def error(self) -> float:
        """Relative standard error of the ratio of the speed-ups.

        The target's step and the round are timed apart, on either side.
        """
        spread = math.sqrt(2 * (self.before.relative_error**2 + self.now.relative_error**2))
        return math.hypot(spread, DRIFT)

    def describe(self) -> str:
        """The change of the speed-up and of each time."""
        parts = [
            ("target's step", "target_ms"),
            ("verification", "verify_ms"),
            ("drafting", "draft_ms"),
        ]
        times = ", ".join(
            f"{name} {getattr(self.before, field):.3g} -> {getattr(self.now, field):.3g} ms"
            for name, field in parts
        )
        software = (
            ""
            if self.before.software == self.now.software
            else f"; {self.before.software} -> {self.now.software}"
        )
        return f"{signed_percent(-self.drop)} ({times}{software})"
