"""The judgement of a speed-up: acceptance at unchanged costs, and both together where costs were
measured again.

Acceptance is judged first, as if costs were unchanged. Where they changed, too, the whole speed-up
is compared, including the error of the times: new costs fail it from a margin of their own on, and
a loss of acceptance fails it unless the new costs surely make up for it.
"""

from __future__ import annotations

import dataclasses
import math

from scipy import special

from ..common.percent import percent
from ..records.case_costs import CaseCosts
from ..speedup.table import positive_interval
from .cost_change import CostChange
from .verdict import Estimate, Outcome, Verdict


def judge_speedup(
    acceptance: Verdict,
    before: CaseCosts | None,
    now: CaseCosts | None,
    *,
    margin: float,
    level: float,
) -> Verdict:
    """The verdict on a speed-up, from the verdict on the acceptance length and the costs of both
    sides.

    Where one side has no costs, those of the other serve for both. `margin` is the
    relative fall from which new costs fail, `level` the false-alarm rate of this judgement.
    """
    if acceptance.pair is None:
        return acceptance
    stored, fresh = before or now, now or before
    if stored is None or fresh is None:
        return Verdict(
            outcome="error",
            metric=acceptance.metric,
            reason="no cost profile to compute a speed-up from; pass --specdec-costs=FILE",
        )
    if stored.target_ms is None or fresh.target_ms is None:
        missing = (
            "the cost profile has no target_ms to compute a speed-up from; measure one that has it"
        )
        return Verdict(outcome="error", metric=acceptance.metric, reason=missing)
    lengths = acceptance.pair.before.acceptance_length, acceptance.pair.now.acceptance_length
    verdict = dataclasses.replace(
        acceptance,
        before=stored.speedup(lengths[0]),
        now=fresh.speedup(lengths[1]),
        estimate=_as_speedup(acceptance.estimate, stored, fresh),
    )
    if stored == fresh:
        return verdict
    verdict = dataclasses.replace(verdict, costs=CostChange(before=stored, now=fresh))
    if stored.machine != fresh.machine:
        return _elsewhere(acceptance, verdict)
    return _together(acceptance, verdict, margin, level)


def _as_speedup(estimate: Estimate | None, before: CaseCosts, now: CaseCosts) -> Estimate | None:
    """An estimate of the acceptance length as one of the speed-up; its drop is that of the
    length.
    """
    if estimate is None:
        return None
    return dataclasses.replace(
        estimate, before=before.speedup(estimate.before), now=now.speedup(estimate.now)
    )


def _elsewhere(acceptance: Verdict, verdict: Verdict) -> Verdict:
    """Times of two machines are not comparable; a loss of acceptance still fails."""
    if acceptance.outcome in ("regressed", "error", "inconclusive"):
        return verdict
    assert verdict.costs is not None
    where = f"{verdict.costs.before.machine!r}, now {verdict.costs.now.machine!r}"
    reason = f"the baseline's costs come from {where}, and times are compared on one machine only"
    cure = "measure there, or keep the new ones with --specdec-update=changed"
    return dataclasses.replace(verdict, outcome="inconclusive", reason=f"{reason}; {cure}")


def _together(acceptance: Verdict, verdict: Verdict, margin: float, level: float) -> Verdict:
    change = verdict.costs
    assert change is not None
    assert verdict.before is not None
    assert verdict.now is not None
    estimate, of_texts = verdict.estimate, verdict.now / verdict.before
    ratio = of_texts if estimate is None else estimate.now / estimate.before
    drop, error = 1 - ratio, math.hypot(change.error, _length_error(acceptance))
    least, most = _drops(ratio, error, level)
    outcome: Outcome
    if acceptance.outcome == "regressed" and most >= 0:
        outcome, reason = (
            "regressed",
            f"acceptance {acceptance.reason}, and the new costs do not surely make up for it",
        )
    elif drop >= margin and least > 0:
        outcome, reason = (
            "regressed",
            "fell with the new costs by more than the spread of the times explains",
        )
    elif most < margin:
        outcome, reason = "pass", "the new costs are not worse by the margin"
        if drop <= -margin and most < 0:
            outcome, reason = (
                "improved",
                "rose with the new costs; --specdec-update=changed would keep them",
            )
    else:
        outcome = "inconclusive"
        reason = (
            f"the times spread too much to detect a fall of {percent(margin)}; "
            f"{_settled(change, most - drop, margin)}"
        )
    interval = _drops(ratio, error, 0.025)
    verdict = dataclasses.replace(verdict, outcome=outcome, reason=reason, limit=margin)
    if estimate is None:
        return dataclasses.replace(verdict, drop=drop, interval=interval)
    return dataclasses.replace(
        verdict,
        drop=1 - of_texts,
        interval=None,
        estimate=dataclasses.replace(estimate, drop=drop, interval=interval),
    )


def _drops(ratio: float, error: float, level: float) -> tuple[float, float]:
    """Least and most relative drop: a speed-up's ratio is positive, so no drop exceeds 1."""
    low, high = positive_interval(ratio, error, level)
    return 1 - high, 1 - low


def _length_error(acceptance: Verdict) -> float:
    """Relative standard error of the ratio of the lengths; none on the same texts."""
    estimate = acceptance.estimate
    interval = acceptance.interval if estimate is None else estimate.interval
    pair = acceptance.pair
    if acceptance.regime not in ("sampled", "target changed") or interval is None or pair is None:
        return 0.0
    low, high = interval
    before, now = (
        (pair.before.acceptance_length, pair.now.acceptance_length)
        if estimate is None
        else (estimate.before, estimate.now)
    )
    ratio = now / before
    return (high - low) / 2 / float(special.ndtri(0.975)) / ratio


def _settled(change: CostChange, reach: float, margin: float) -> str:
    samples = change.now.samples
    if not samples:
        return "measure the costs over more rounds"
    return (
        f"time about {math.ceil(samples * (2 * reach / margin) ** 2)} rounds of each part on "
        "either side"
    )
