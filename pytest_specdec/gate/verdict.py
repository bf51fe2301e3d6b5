"""The judgement of one case against its baseline.

Two regimes. *Deterministic*: both records replay the same texts, so the change is exact and nothing is random; it
fails from the margin on, or from a numerical tolerance on where nothing at all was changed. In another environment
rounding moves near-ties, so there the drop must also pass the permutation test. *Sampled*: the target changed and
brought texts of its own; prompts are paired and a permutation test decides.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from typing import Literal

from ..baselines.schema import Record
from .paired import Pair
from .permutation import can_resolve, swap_p_value

Outcome = Literal["pass", "improved", "regressed", "inconclusive", "error"]
Regime = Literal["deterministic", "sampled"]

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-3, "float16": 1e-3}
"""Relative change that the same models in the same environment may show: last bits, near-ties."""
POWER = 0.8


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the gate says, with every number that its message and the report print. Drops are relative."""

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
    changed: tuple[str, ...] = ()
    pair: Pair | None = dataclasses.field(default=None, compare=False, repr=False)

    def passes(self, inconclusive: str = "fail") -> bool:
        """Whether the test passes; `inconclusive` is `fail` or `warn`."""
        return self.outcome in ("pass", "improved") or (self.outcome == "inconclusive" and inconclusive == "warn")


def judge(
    now: Record,
    before: Record,
    *,
    metric: str = "acceptance_length",
    margin: float,
    alpha: float = 0.01,
    gates: int = 1,
    subset: bool = False,
) -> Verdict:
    """Compare a measured record with a stored one.

    `margin` is the relative drop that matters, `alpha` the session's false-alarm rate, shared by `gates` gates;
    `subset` allows `now` to hold only some of the baseline's prompts. Speed-up under one cost profile and, at fixed
    k, the accepted tokens behind the acceptance rate fall and rise with the acceptance length, so one test serves.
    """
    if problems := incomparable(now, before, subset=subset):
        return Verdict("error", metric, "; ".join(problems))
    pair = Pair.of(before.as_counts(), now.as_counts())
    if not (pair.before.total_rounds > 0 and pair.now.total_rounds > 0):
        return Verdict("error", metric, "no rounds to judge; use longer texts or a smaller k")
    if not pair.before.expected_accepted > 0:
        return Verdict("error", metric, "the baseline's drafter never had a token accepted; record a working one first")
    scale = _scale(metric, pair)
    low, high = (bound * scale for bound in pair.interval())
    facts = _Facts(metric, pair, scale, (low, high), changes(now, before))
    if all(before.counts[key].text == row.text for key, row in now.counts.items()):
        return _deterministic(facts, margin, alpha / gates, now, before)
    return _sampled(facts, margin, alpha / gates)


def incomparable(now: Record, before: Record, *, subset: bool = False) -> list[str]:
    """Why two records must not be compared: another definition, condition or prompt set. Empty when they may."""
    problems = []
    if now.definition != before.definition:
        problems.append(f"the baseline counts by definition {before.definition!r}, this version by {now.definition!r}")
    for name in now.conditions.__struct_fields__:
        old, new = getattr(before.conditions, name), getattr(now.conditions, name)
        if old != new:
            problems.append(f"{name} was {old!r} in the baseline and is {new!r}")
    fresh, gone = set(now.counts) - set(before.counts), set(before.counts) - set(now.counts)
    if fresh or (gone and not subset):
        problems.append(f"the prompt set changed: {len(fresh)} new, {len(gone)} gone")
    return problems


def changes(now: Record, before: Record) -> tuple[str, ...]:
    """What is under test, or around it, and differs from the baseline."""
    found = []
    for role in ("target", "drafter"):
        old, new = getattr(before.fingerprints, role), getattr(now.fingerprints, role)
        if old != new:
            found.append(f"{role} weights or configuration ({old} -> {new})")
    found += [f"environment ({difference})" for difference in now.environment.differences(before.environment)]
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class _Facts:
    metric: str
    pair: Pair
    scale: float
    """Relative drop of the metric per token of acceptance length."""
    interval: tuple[float, float]
    changed: tuple[str, ...]

    @property
    def drop(self) -> float:
        return self.pair.length_drop * self.scale

    def verdict(self, outcome: Outcome, reason: str, regime: Regime, limit: float, detectable: float, p: float | None) -> Verdict:
        value = "acceptance_rate" if self.metric == "acceptance_rate" else "acceptance_length"
        return Verdict(
            outcome, self.metric, reason, regime, getattr(self.pair.before, value), getattr(self.pair.now, value),
            self.drop, self.interval, p, limit, detectable, self.changed, self.pair,
        )  # fmt: skip


def _scale(metric: str, pair: Pair) -> float:
    if metric == "acceptance_rate":
        return 1.0 / pair.before.expected_accepted
    return 1.0 / pair.before.acceptance_length


def _deterministic(facts: _Facts, margin: float, level: float, now: Record, before: Record) -> Verdict:
    """On the same texts nothing is random, save how another environment rounds: there a drop must beat that, too."""
    tolerance = TOLERANCE.get(now.environment.dtype, max(TOLERANCE.values()))
    limit = max(margin, tolerance) if facts.changed else tolerance
    rounded_anew = now.environment != before.environment and can_resolve(facts.pair.prompts, level)
    p = swap_p_value(facts.pair, level=level, seed=_seed(facts.pair)) if rounded_anew and facts.drop >= limit else None
    outcome: Outcome
    if p is not None and p > level:
        outcome, reason = "inconclusive", "fell in another environment, by no more than its rounding may explain"
    elif facts.drop >= limit:
        why = "the same texts" if facts.changed else "the same texts, models and environment"
        outcome, reason = "regressed", f"fell on {why}, which leaves no room for chance"
    elif facts.drop <= -limit:
        outcome, reason = "improved", "rose on the same texts; --specdec-update=changed would keep the gain"
    else:
        outcome, reason = "pass", "unchanged" if abs(facts.drop) < tolerance else "moved by less than the margin"
    return facts.verdict(outcome, reason, "deterministic", limit, limit, p)


def _seed(pair: Pair) -> int:
    """The same swaps for the same prompts, whoever runs them."""
    return zlib.crc32("".join(pair.now.prompts).encode())


def _sampled(facts: _Facts, margin: float, level: float) -> Verdict:
    from scipy import stats

    pair = facts.pair
    if not can_resolve(pair.prompts, level):
        needed = math.ceil(-math.log2(level))
        return Verdict("error", facts.metric, f"{pair.prompts} prompts can never fail this gate; use at least {needed}")
    error = pair.standard_error() * facts.scale
    reach = float(stats.norm.isf(level) + stats.norm.isf(1 - POWER))
    detectable = max(margin, reach * error)
    seed = _seed(pair)
    p = swap_p_value(pair, level=level, seed=seed)
    outcome: Outcome
    if p <= level and facts.drop >= margin:
        outcome, reason = "regressed", "fell by more than label swaps between the two runs explain"
    elif facts.drop <= -margin and swap_p_value(Pair(pair.now, pair.before), level=level, seed=seed) <= level:
        outcome, reason = "improved", "rose; --specdec-update=changed would keep the gain"
    elif pair.upper_bound(level) * facts.scale < margin:
        outcome, reason = "pass", "not inferior: the drop's upper bound is below the margin"
    else:
        enough = math.ceil(pair.prompts * (reach * error / margin) ** 2) if margin > 0 else None
        settle = f"about {enough} prompts would settle it" if enough else "a margin above 0 would settle it"
        outcome, reason = "inconclusive", f"new texts, too few to tell {margin:.2%} from chance; {settle}"
    return facts.verdict(outcome, reason, "sampled", margin, detectable, p)
