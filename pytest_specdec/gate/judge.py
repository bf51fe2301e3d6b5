"""The verdict on one case against its baseline.

Two regimes. *Deterministic*: both sides replay the same texts, so the change is exact and nothing
is random. It fails from the margin on, or from a numerical tolerance on where neither models nor
environment changed. In another environment rounding moves near-ties, so there the drop must also
pass the permutation test. *Sampled*: the texts differ, because the target changed or the engine
emits its own; prompts are paired and a permutation test decides.
"""

from __future__ import annotations

import dataclasses

from ..records.measured import MeasuredCase
from .comparability import changes, incomparable, unusable
from .different_texts import judge_different_texts
from .facts import ComparisonFacts
from .paired import Pair
from .same_texts import judge_same_texts
from .session_test import CellTest
from .verdict import Verdict


def judge(
    now: MeasuredCase,
    before: MeasuredCase,
    *,
    metric: str = "acceptance_length",
    margin: float,
    alpha: float = 0.01,
    gates: int = 1,
    subset: bool = False,
    test: CellTest | None = None,
) -> Verdict:
    """Compare a case as measured `now` with its baseline `before`.

    `margin` is the relative drop that matters, `alpha` the session's false-alarm rate, shared by
    `gates` gates. `test` is the case's place in the session's label-swap test; without one the case
    is tested alone, at alpha / gates. With `subset` either side may lack some of the other's
    prompts; the shared ones are judged. Speed-up under one cost profile and, where every round
    drafts k tokens, the acceptance rate fall and rise with the acceptance length, so one test
    serves.
    """
    unknown = set(now.prompts) - set(before.prompts)
    if subset and unknown and set(before.prompts) <= set(now.prompts):
        verdict = judge(
            now.only(before.prompts),
            before,
            metric=metric,
            margin=margin,
            alpha=alpha,
            gates=gates,
            subset=True,
            test=test,
        )
        rest = f"{len(unknown)} of {len(now.prompts)} prompts have no baseline and were not judged"
        return dataclasses.replace(verdict, reason=f"{verdict.reason}; {rest}")
    if problems := incomparable(now, before, subset=subset):
        return Verdict(outcome="error", metric=metric, reason="; ".join(problems))
    same_texts = before.runs_on_same_texts(now)
    stored = before.runs if same_texts is None else same_texts
    pair = Pair.of([run.counts for run in stored], now.counts_of_runs)
    if problem := unusable(pair, before, metric, same_texts=same_texts is not None):
        return Verdict(outcome="error", metric=metric, reason=problem)
    facts = ComparisonFacts.of(metric, pair, changes(now, before))
    if same_texts is not None:
        return judge_same_texts(facts, margin, alpha / gates, now, before)
    level = alpha / gates
    return judge_different_texts(facts, margin, level, test or CellTest.alone(level))
