"""Slow erosion: updates that each pass add up, so a run is also compared with the best of the last
baselines.
"""

from __future__ import annotations

import dataclasses

from ..records.measured import MeasuredCase
from ..records.record import Record
from ..records.replaced import Erosion
from .paired import Pair
from .verdict import Verdict


def erosion_of(acceptance: Verdict, now: MeasuredCase, before: Record) -> Erosion | None:
    """How far a run is below the best of its baseline `before` and of those before that one, from
    the verdict on its acceptance.

    None where there is nothing to compare: an error, or other prompts than the baseline's.
    """
    pair = acceptance.pair
    if pair is None or set(pair.now.prompts) != before.counts.keys():
        return None
    same_texts = before.as_measured().runs_on_same_texts(now.only(before.counts)) is not None
    if acceptance.estimate is None and not same_texts:
        return before.eroded_to(pair.now.acceptance_length)
    return before.eroded_by(_change(acceptance, pair))


def judge_erosion(verdict: Verdict, erosion: Erosion | None, limit: float | None) -> Verdict:
    """The verdict with its erosion, which fails it from `limit` on, a relative drop.

    The point estimate decides; on other texts chance has a part in it.
    """
    if erosion is None:
        return verdict
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


def _change(acceptance: Verdict, pair: Pair) -> float:
    """Ratio of the acceptance length to the baseline's on the baseline's texts, by what decided.

    A run may hold some of the baseline's seeds only, so the lengths themselves are not comparable.
    """
    estimate = acceptance.estimate
    if estimate is None:
        return pair.now.acceptance_length / pair.before.acceptance_length
    if acceptance.metric != "acceptance_rate":
        return estimate.now / estimate.before
    k = pair.now.k  # every round of an estimate drafts k tokens
    return (1 + k * estimate.now) / (1 + k * estimate.before)
