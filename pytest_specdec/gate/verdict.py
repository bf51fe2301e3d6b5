"""What the gate decided on one case, with every number that its message and reports print."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..records.replaced import Erosion
from .cost_change import CostChange
from .paired import Pair

Outcome = Literal["pass", "improved", "regressed", "inconclusive", "error"]
Regime = Literal["deterministic", "sampled"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate decided, with every number that its message and the report print. Drops are
    relative.
    """

    outcome: Outcome
    metric: str
    reason: str
    regime: Regime | None = None
    before: float | None = None
    now: float | None = None
    drop: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    limit: float | None = None
    """The relative drop from which this gate fails."""
    smallest_detectable_drop: float | None = None
    position: int | None = None
    """Which metric's drop the test found largest: 0 is the acceptance length, i the survival of
    position i.
    """
    evidence: float | None = None
    """The e-process after this run, where evidence accumulates."""
    changed: tuple[str, ...] = ()
    pair: Pair | None = dataclasses.field(default=None, compare=False, repr=False)
    costs: CostChange | None = None
    """Where a speed-up's costs changed, too."""
    erosion: Erosion | None = None
    """How far it is below the best of the last baselines, where that is worth a line."""
    eroded: bool = False
    """Whether erosion alone fails it; `limit` is then that of erosion."""

    def passes(self, inconclusive: str = "fail") -> bool:
        """Whether the test passes; `inconclusive` is `fail` or `warn`."""
        return self.outcome in ("pass", "improved") or (
            self.outcome == "inconclusive" and inconclusive == "warn"
        )
