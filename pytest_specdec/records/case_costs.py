"""The time that a round of one case takes, and the speed-up that follows from it."""

from __future__ import annotations

import msgspec

from ..speedup.formulas import theoretical_speedup
from .ranges import Milliseconds, NotNegative, RelativeError


class CaseCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a round of one case takes, in milliseconds, from a cost profile."""

    target_ms: Milliseconds | None
    verify_ms: Milliseconds
    draft_ms: Milliseconds
    relative_error: RelativeError = 0.0
    """Standard error of each time."""
    samples: NotNegative = 0
    machine: str = "unknown"
    software: str = ""

    @property
    def times(self) -> tuple[float, ...]:
        """Those that are known."""
        return tuple(ms for ms in (self.target_ms, self.verify_ms, self.draft_ms) if ms is not None)

    def speedup(self, acceptance_length: float) -> float:
        """Theoretical speed-up at an acceptance length; nan without the target's step."""
        if self.target_ms is None:
            return float("nan")
        times = {
            "target_ms": self.target_ms,
            "verify_ms": self.verify_ms,
            "draft_ms": self.draft_ms,
        }
        return theoretical_speedup(acceptance_length, **times)

    def tokens_per_second(self, acceptance_length: float) -> float:
        """Theoretical throughput of one batch's row: tokens a round over the time of drafting and
        verifying it.
        """
        return 1000 * acceptance_length / (self.verify_ms + self.draft_ms)
