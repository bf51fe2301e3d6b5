"""What the gate decided on one case, with every number that its message and reports print."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..records.replaced import Erosion
from .cost_change import CostChange
from .paired import Pair

Outcome = Literal["pass", "improved", "regressed", "inconclusive", "error"]
Regime = Literal[
    "same weights",
    "another environment",
    "drafter changed",
    "greedy drafter changed",
    "target changed",
    "sampled",
]
"""What changed since the baseline, and so how a drop is judged:

- *same weights*: nothing but code; exact on the same texts.
- *another environment*: the same weights on another device, dtype or version; rounding differs.
- *drafter changed*: other drafter weights; the same texts, so only the choice of prompts is random.
- *greedy drafter changed*: the same at temperature 0, judged by smoothed counts.
- *target changed*: other target weights; judged in the contexts of the old target's texts.
- *sampled*: every run has texts of its own; a permutation test over prompts.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """The quantity that decided, where it is not the metric of the emitted texts itself."""

    name: str
    """What was measured, for messages: `in the same contexts`."""
    before: float
    now: float
    drop: float
    """Relative, of the verdict's metric."""
    interval: tuple[float, float]
    """95 %, of the relative drop over prompts like these."""
    effective_share: float | None = None
    """Of the contexts, see `acceptance.contexts`; None where no weights are involved."""
    unseen: float = 0.0
    """Bound on the part of the relative drop that may be due to tokens that the old target could
    not emit.
    """
    pair: Pair | None = dataclasses.field(default=None, compare=False, repr=False)
    """The counts that decided, for where acceptance changed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Night:
    """An accumulated run."""

    length: float
    """Its acceptance length."""
    p_value: float
    """Against all runs before it."""
    evidence: float
    """The e-process after it."""


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
    """Of the metric on the emitted texts; what decided is `estimate` where there is one."""
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
    evidence_limit: float | None = None
    """From which evidence fails the case."""
    nights: tuple[Night, ...] = ()
    """The accumulated runs, oldest first; this run is the last one."""
    changed: tuple[str, ...] = ()
    estimate: Estimate | None = None
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
