"""The judgement of one more run together with all runs before it: evidence accumulates, and a gate
is never retried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..acceptance.counts import Counts
from ..cases.case import REPLAYING
from ..records.measured import MeasuredCase
from .comparability import changes, incomparable, unusable
from .different_texts import undecided
from .evidence import accumulate
from .facts import ComparisonFacts
from .paired import Pair
from .permutation import random_p_value
from .verdict import Night, Outcome, Verdict

_STORED_TEXTS = (
    "a run without --specdec-accumulate decides on the stored texts, where far smaller drops show"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """A run that was accumulated against the same baseline."""

    p_value: float
    """Against all runs before it."""
    counts: Counts


def judge_accumulated(
    now: MeasuredCase,
    before: MeasuredCase,
    earlier: Sequence[EarlierRun],
    *,
    metric: str = "acceptance_length",
    margin: float,
    alpha: float = 0.01,
    gates: int = 1,
) -> tuple[Verdict, float | None]:
    """Judge a run by the e-process over it and the `earlier` ones.

    Also returns the run's p-value, with which it is to be kept; None where it could not be judged.
    However often one looks, the chance that one of `gates` unchanged gates ever fails is `alpha` at
    most.
    """
    if problems := incomparable(now, before, fresh=True):
        return Verdict(outcome="error", metric=metric, reason="; ".join(problems)), None
    stored = before.counts_of_runs
    later = [*(run.counts for run in earlier), now.counts]
    pair = Pair.of([*stored, *later[:-1]], later[-1:])
    if problem := unusable(pair, before, metric):
        return Verdict(outcome="error", metric=metric, reason=problem), None
    level = alpha / gates
    facts = ComparisonFacts.of(metric, pair, changes(now, before))
    p_value = random_p_value(pair, level=level, seed=facts.seed + len(earlier))
    p_values = [*(run.p_value for run in earlier), p_value]
    evidence = accumulate(p_values)
    # The reported drop starts at the run from which the evidence is largest.
    since = Pair.of([*stored, *later[: evidence.since - 1]], later[evidence.since - 1 :])
    facts = ComparisonFacts.of(metric, since, facts.changed)
    summary = f"evidence {evidence.value:.3g} of {1 / level:.4g} after {len(later)} runs"
    outcome: Outcome
    if evidence.highest >= 1 / level and facts.drop >= margin:
        outcome, reason = "regressed", f"fell from run {evidence.since} on: {summary}"
    else:
        outcome, reason = undecided(facts, margin, level)
        reason = f"{reason}; {summary}"
        if outcome == "inconclusive" and now.conditions.engine in REPLAYING:
            reason += f"; {_STORED_TEXTS}"
    verdict = facts.verdict(
        outcome=outcome,
        reason=reason,
        regime="sampled",
        limit=margin,
        detectable=facts.detectable(margin, level),
    )
    nights = tuple(
        Night(length=counts.acceptance_length, p_value=p, evidence=value)
        for counts, p, value in zip(later, p_values, evidence.values, strict=True)
    )
    return dataclasses.replace(
        verdict, evidence=evidence.value, evidence_limit=1 / level, nights=nights
    ), p_value
