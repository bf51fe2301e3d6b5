"""The judgement of one more run on top of all before it: evidence accumulates, and a gate is never
retried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..baselines.schema import AccumulatedRun, Record, counts_of_rows
from .evidence import accumulate
from .paired import Pair
from .permutation import random_p_value
from .verdict import ComparisonFacts, Outcome, Verdict, changes, incomparable, undecided, unusable


def judge_night(
    now: Record,
    before: Record,
    nights: Sequence[AccumulatedRun],
    *,
    metric: str = "acceptance_length",
    margin: float,
    alpha: float = 0.01,
    gates: int = 1,
) -> tuple[Verdict, AccumulatedRun | None]:
    """Judge a run by the e-process over it and the earlier `nights`; the new night is to be kept.

    Whenever one looks, and however often, the chance that one of `gates` unchanged gates ever fails
    is `alpha` at most.
    """
    if problems := incomparable(now, before, fresh=True):
        return Verdict("error", metric, "; ".join(problems)), None
    k = now.conditions.k
    stored = before.runs_as_counts()
    later = [*(counts_of_rows(night.counts, k) for night in nights), now.as_counts()]
    pair = Pair.of([*stored, *later[:-1]], later[-1:])
    if problem := unusable(pair, before, metric):
        return Verdict("error", metric, problem), None
    level = alpha / gates
    facts = ComparisonFacts.of(metric, pair, changes(now, before))
    p = random_p_value(pair, level=level, seed=facts.seed + len(nights))
    evidence = accumulate([*(night.p_value for night in nights), p])
    # The drop is told from the night on that the evidence points at.
    since = Pair.of([*stored, *later[: evidence.since - 1]], later[evidence.since - 1 :])
    facts = ComparisonFacts.of(metric, since, facts.changed)
    story = f"evidence {evidence.value:.3g} of {1 / level:.4g} after {len(later)} runs"
    outcome: Outcome
    if evidence.highest >= 1 / level and facts.drop >= margin:
        outcome, reason = "regressed", f"fell from run {evidence.since} on: {story}"
    else:
        outcome, reason = undecided(facts, margin, level)
        reason = f"{reason}; {story}"
    verdict = facts.verdict(
        outcome, reason, "sampled", margin, facts.detectable(margin, level), None
    )
    verdict = dataclasses.replace(verdict, evidence=evidence.value)
    return verdict, AccumulatedRun(p, now.fingerprints, now.counts)
