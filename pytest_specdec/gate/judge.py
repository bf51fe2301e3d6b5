"""The verdict on one case against its baseline.

What changed since the baseline decides how a drop is judged, see `verdict.Regime`: exactly, where
nothing but code did; on the same texts, where the drafter did; in the same contexts, where the
target did; by a permutation test over prompts, where every run has texts of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..cases.case import REPLAYING
from ..records.measured import MeasuredCase
from ..records.same_contexts import SameContexts
from .changed_drafter import judge_changed_drafter, stale_smoothed
from .changed_target import judge_changed_target
from .comparability import changes, incomparable, unusable
from .different_texts import judge_different_texts
from .facts import ComparisonFacts
from .paired import Pair
from .same_texts import judge_same_weights
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
    contexts: Callable[[], Sequence[SameContexts] | None] = lambda: None,
    test: CellTest | None = None,
) -> Verdict:
    """Compare a case as measured `now` with its baseline `before`.

    `margin` is the relative drop that matters, `alpha` the session's false-alarm rate, shared by
    `gates` gates. With `subset` either side may lack some of the other's prompts; the shared ones
    are judged. Speed-up under one cost profile and, where every round drafts k tokens, the
    acceptance rate fall and rise with the acceptance length, so one test serves. `contexts`
    measures today's pair in the contexts of the baseline's texts, run by run, and is called where
    the target changed. `test` is the case's place in the session's label-swap test; without one it
    is tested alone, at its share of alpha.
    """
    unknown, measured = set(now.prompts) - set(before.prompts), len(now.prompts)
    if not subset or not unknown or len(unknown) + len(before.prompts) > measured:
        unknown = set()
    if unknown:
        now = now.only(before.prompts)
    verdict = _judge_shared(
        now,
        before,
        metric=metric,
        margin=margin,
        level=alpha / gates,
        subset=subset,
        contexts=contexts,
        test=test,
    )
    if not unknown:
        return verdict
    rest = f"{len(unknown)} of {measured} prompts have no baseline and were not judged"
    return dataclasses.replace(verdict, reason=f"{verdict.reason}; {rest}")


def _judge_shared(
    now: MeasuredCase,
    before: MeasuredCase,
    *,
    metric: str,
    margin: float,
    level: float,
    subset: bool,
    contexts: Callable[[], Sequence[SameContexts] | None],
    test: CellTest | None,
) -> Verdict:
    """`judge`, on the prompts that the baseline has; `level` is the gate's share of alpha."""
    if problems := incomparable(now, before, subset=subset):
        return Verdict(outcome="error", metric=metric, reason="; ".join(problems))
    same_texts = before.runs_on_same_texts(now)
    stored = before.runs if same_texts is None else same_texts
    pair = Pair.of([run.counts for run in stored], now.counts_of_runs)
    if problem := unusable(pair, before, metric, same_texts=same_texts is not None):
        return Verdict(outcome="error", metric=metric, reason=problem)
    facts = ComparisonFacts.of(metric, pair, changes(now, before))

    def by_texts(level: float) -> Verdict:
        if same_texts is None:
            return judge_different_texts(facts, margin, level, test)
        if now.fingerprints == before.fingerprints:
            if problem := stale_smoothed(facts, now, before, same_texts):
                return Verdict(outcome="error", metric=metric, reason=problem)
            return judge_same_weights(facts, margin, level, now, before)
        return judge_changed_drafter(facts, margin, level, now, before, same_texts)

    changed_target = now.fingerprints.target != before.fingerprints.target
    if not changed_target or now.conditions.engine not in REPLAYING:
        return by_texts(level)
    return judge_changed_target(
        facts,
        margin,
        level,
        now=now,
        before=before,
        contexts=contexts(),
        by_texts=by_texts,
    )
