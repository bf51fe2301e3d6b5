"""Slow erosion: updates that each pass add up, so a run is also compared with the best of the last
baselines.
"""

from __future__ import annotations

import dataclasses

from ..records.record import Record
from .paired import Pair
from .verdict import Verdict


def judge_erosion(verdict: Verdict, before: Record, limit: float | None) -> Verdict:
    """The verdict on a run, with how far its acceptance length is below the best of its baseline
    `before` and of those before that one.

    From `limit` on, a relative drop, it fails. The point estimate decides; on other texts chance
    has a part in it. Only runs of the baseline's very prompts are judged; the others' verdicts are
    returned as they are.
    """
    pair = verdict.pair
    if pair is None or set(pair.now.prompts) != before.counts.keys():
        return verdict
    if verdict.regime == "sampled":
        erosion = before.eroded_to(pair.now.acceptance_length)
    else:
        erosion = before.eroded_by(_change(verdict, pair))
    fails = erosion.reaches(limit)
    if not (fails or erosion.notable):
        return verdict
    verdict = dataclasses.replace(verdict, erosion=erosion)
    if not fails or verdict.outcome in ("regressed", "error"):
        return verdict
    reason = f"the acceptance length has eroded: it is {erosion.describe()}"
    return dataclasses.replace(
        verdict, outcome="regressed", reason=reason, limit=limit, eroded=True
    )


def _change(verdict: Verdict, pair: Pair) -> float:
    """Ratio of the acceptance length to the baseline's on the baseline's texts, by what decided.

    A run may hold some of the baseline's seeds only, so the lengths themselves are not comparable.
    """
    estimate = verdict.estimate
    if estimate is None:
        return pair.now.acceptance_length / pair.before.acceptance_length
    if verdict.metric != "acceptance_rate":
        return estimate.now / estimate.before
    k = pair.now.k  # every round of an estimate drafts k tokens
    return (1 + k * estimate.now) / (1 + k * estimate.before)
