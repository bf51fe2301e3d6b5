"""What the verdict of every regime reports."""

from __future__ import annotations

import dataclasses
import zlib

from ..acceptance.counts import Counts
from .detectable import smallest_detectable_drop
from .paired import Pair
from .permutation import PermutationResult
from .verdict import Estimate, Outcome, Regime, Verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonFacts:
    """What every regime's verdict reports."""

    metric: str
    pair: Pair
    scale: float
    """Relative drop of the metric per token of acceptance length."""
    changed: tuple[str, ...]

    @classmethod
    def of(cls, metric: str, pair: Pair, changed: tuple[str, ...]) -> ComparisonFacts:
        rate = metric == "acceptance_rate"
        return cls(
            metric=metric,
            pair=pair,
            scale=1 / (pair.before.expected_accepted if rate else pair.before.acceptance_length),
            changed=changed,
        )

    @property
    def drop(self) -> float:
        """Relative; negative for a gain. The acceptance rate has a drop of its own, because it also
        depends on the drafted tokens per round.
        """
        if self.metric == "acceptance_rate":
            return 1 - self.pair.now.acceptance_rate / self.pair.before.acceptance_rate
        return self.pair.length_drop * self.scale

    @property
    def error(self) -> float:
        """Standard error of the relative drop, over prompts like these."""
        return self.pair.relative_error(self.scale)

    @property
    def inflation(self) -> float:
        """Relative drop of this metric per relative drop of the acceptance length."""
        return self.scale * self.pair.before.acceptance_length

    @property
    def seed(self) -> int:
        """Of the permutation test: the same prompts always get the same swaps."""
        return zlib.crc32("".join(self.pair.now.prompts).encode())

    def detectable(self, margin: float, level: float) -> float | None:
        drop = smallest_detectable_drop(self.pair, level=level, margin=margin / self.inflation)
        return None if drop is None else drop * self.inflation

    def bounds(self, level: float) -> tuple[float, float]:
        """One-sided bounds of the relative drop for other prompts like these, each at `level`."""
        return self._interval(1 - 2 * level)

    def _interval(self, confidence: float) -> tuple[float, float]:
        offset = self.drop - self.pair.length_drop * self.scale
        low, high = self.pair.relative_interval(self.scale, confidence)
        return low + offset, high + offset

    def _value(self, counts: Counts) -> float:
        rate = self.metric == "acceptance_rate"
        return counts.acceptance_rate if rate else counts.acceptance_length

    def estimate(self, name: str) -> Estimate:
        """This comparison as what decided on another one."""
        return Estimate(
            name=name,
            before=self._value(self.pair.before),
            now=self._value(self.pair.now),
            drop=self.drop,
            interval=self._interval(0.95),
            pair=self.pair,
        )

    def verdict(
        self,
        *,
        outcome: Outcome,
        reason: str,
        regime: Regime,
        limit: float,
        detectable: float | None,
        swaps: PermutationResult | None = None,
        estimate: Estimate | None = None,
    ) -> Verdict:
        return Verdict(
            outcome=outcome,
            metric=self.metric,
            reason=reason,
            regime=regime,
            before=self._value(self.pair.before),
            now=self._value(self.pair.now),
            drop=self.drop,
            interval=self._interval(0.95),
            p_value=None if swaps is None else swaps.p_value,
            limit=limit,
            smallest_detectable_drop=detectable,
            position=None if swaps is None else swaps.position,
            changed=self.changed,
            estimate=estimate,
            pair=self.pair,
        )
