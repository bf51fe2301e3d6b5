"""The verdict where the target's weights changed: today's pair is measured in the contexts of the
old target's texts.

What decides is the expected length of a round that starts anywhere in the old texts (see
`acceptance.contexts`): both pairs in the very same contexts, so no sampling of texts stands between
them. What it does not see is how the contexts themselves shift. The fresh texts of the new target
show that, with an interval, and fail the case by a permutation test of their own; each of the two
tests has half of the gate's level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..records.measured import MeasuredCase, MeasuredRun
from ..records.same_contexts import SameContexts
from .detectable import prompts_to_bound, smallest_bounded_drop
from .different_texts import judge_different_texts
from .facts import ComparisonFacts
from .paired import Pair
from .same_texts import KEEP, UNCHANGED
from .verdict import Estimate, Outcome, Verdict

LEAST_EFFECTIVE = 0.2
"""Share of effective contexts below which the two targets have too little in common."""
_PRECISE = 2.0
"""A drop below the margin passes where the gate would have seen one of so many margins."""
_UPDATE = "--specdec-update=all stores them with the next baseline"


def judge_changed_target(
    fresh: ComparisonFacts,
    margin: float,
    level: float,
    before: MeasuredCase,
    contexts: Sequence[SameContexts] | None,
) -> Verdict:
    """The verdict on `fresh` texts of a changed target, decided in the same contexts where these
    were measured.
    """
    problem, facts, estimate = _compared(fresh, before, contexts)
    if facts is None or estimate is None:
        verdict = judge_different_texts(fresh, margin, level)
        return dataclasses.replace(verdict, reason=f"{verdict.reason} ({problem})")
    sampled = judge_different_texts(fresh, margin, level / 2)
    outcome, reason, detectable = decided(facts, estimate, margin, level / 2)
    if sampled.outcome == "regressed" and outcome != "regressed":
        outcome = "regressed"
        reason = f"fell on fresh texts of the new target, though not in the same contexts: {reason}"
    return fresh.verdict(
        outcome=outcome,
        reason=reason,
        regime="target changed",
        limit=margin,
        detectable=detectable,
        estimate=estimate,
    )


def decided(
    facts: ComparisonFacts, estimate: Estimate, margin: float, level: float
) -> tuple[Outcome, str, float | None]:
    """Outcome, reason and smallest detectable drop by the same contexts."""
    detectable = smallest_bounded_drop(facts, margin, level)
    return *_outcome(facts, estimate, margin, level, detectable), detectable


def _outcome(
    facts: ComparisonFacts,
    estimate: Estimate,
    margin: float,
    level: float,
    detectable: float | None,
) -> tuple[Outcome, str]:
    low, high = facts.bounds(level)
    surely = estimate.drop - estimate.unseen
    if surely >= margin and low - estimate.unseen > 0:
        return "regressed", "fell by the margin or more in the same contexts"
    if estimate.drop <= -margin and high < 0:
        return "improved", f"rose in the same contexts; {KEEP}"
    precise = detectable is not None and detectable <= _PRECISE * margin
    if high < margin or (estimate.drop < margin and precise):
        unchanged = abs(estimate.drop) < UNCHANGED
        return "pass", (
            "unchanged in the same contexts"
            if unchanged
            else "moved by less than the margin in the same contexts"
        )
    if surely < margin <= estimate.drop:
        return "inconclusive", (
            "fell in the same contexts, but tokens that the old target could not emit may make up "
            "for it; a baseline without top-k and top-p would settle it"
        )
    prompts = prompts_to_bound(facts, level)
    settle = f"about {prompts} prompts would settle it" if prompts else "use more prompts"
    return "inconclusive", f"too few prompts to tell {margin:.2%} in the same contexts; {settle}"


def _compared(
    fresh: ComparisonFacts, before: MeasuredCase, contexts: Sequence[SameContexts] | None
) -> tuple[str, ComparisonFacts | None, Estimate | None]:
    """The comparison in the same contexts; why it cannot be made, where it cannot."""
    if contexts is None:
        return (
            "judged on fresh texts alone: no log-probabilities of the old target are stored with "
            f"its texts; {_UPDATE}",
            None,
            None,
        )
    runs = [_run_on(before, measured) for measured in contexts]
    stored = [run.contexts for run in runs if run is not None and run.contexts is not None]
    if len(stored) < len(contexts):
        return (
            "judged on fresh texts alone: the baseline holds no acceptance in the contexts of the "
            f"stored texts; {_UPDATE}",
            None,
            None,
        )
    pair = Pair.of(stored, [measured.measured.counts for measured in contexts])
    share = min(measured.measured.effective_share for measured in contexts)
    if not pair.now.total_rounds > 0 or pair.prompts < fresh.pair.prompts:
        return "judged on fresh texts alone: some prompts have no stored text", None, None
    if share < LEAST_EFFECTIVE:
        return (
            "judged on fresh texts alone: the old target's texts are too unlike the new one's "
            f"({share:.0%} of the contexts are effective)",
            None,
            None,
        )
    facts = ComparisonFacts.of(fresh.metric, pair, fresh.changed)
    unseen = max(measured.measured.unseen for measured in contexts) * facts.scale
    greedy = before.conditions.temperature == 0
    estimate = dataclasses.replace(
        facts.estimate("in the same contexts" + ", smoothed" * greedy),
        effective_share=None if greedy else share,
        unseen=unseen,
    )
    return "", facts, estimate


def _run_on(before: MeasuredCase, contexts: SameContexts) -> MeasuredRun | None:
    """The baseline's run on the very texts of the contexts; None where there is none."""
    if contexts.target != before.fingerprints.target:
        return None
    known = contexts.text_fingerprints
    return next(
        (
            run
            for run in before.runs
            if all(
                text and known.get(key, text) == text for key, text in run.text_fingerprints.items()
            )
        ),
        None,
    )
