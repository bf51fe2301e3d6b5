"""The verdict where the target's weights changed: today's pair is measured in the contexts of the
old target's texts.

What decides is the expected length of a round that starts anywhere in the old texts (see
`acceptance.contexts`): both pairs in the very same contexts, so no sampling of texts stands between
them. What it does not see is how the contexts themselves shift. The fresh texts of the new target
show that, with an interval, and fail the case by the session's permutation test; each of the two
tests has half of the gate's share of alpha.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ..acceptance.counts import Counts
from ..common.percent import percent, signed_percent
from ..records.measured import MeasuredCase, MeasuredRun
from ..records.same_contexts import SameContexts
from .detectable import prompts_to_bound, prompts_to_detect, smallest_bounded_drop
from .facts import ComparisonFacts
from .paired import Pair
from .same_texts import KEEP, UNCHANGED
from .verdict import Estimate, Outcome, Verdict

LEAST_EFFECTIVE = 0.2
"""Share of effective contexts below which the two targets have too little in common."""
_PRECISE = 2.0
"""A drop below the margin passes where the gate would have seen one of so many margins."""
_ALONE = "judged on fresh texts alone"
_UPDATE = "to store them, run the old pair once with --specdec-update=all"


def judge_changed_target(
    fresh: ComparisonFacts,
    margin: float,
    level: float,
    *,
    now: MeasuredCase,
    before: MeasuredCase,
    contexts: Sequence[SameContexts] | None,
    by_texts: Callable[[float], Verdict],
) -> Verdict:
    """The verdict on `fresh` texts of a changed target, decided in the same contexts where these
    were measured; `by_texts` judges the texts themselves, at a level.
    """
    if broken := _broken(before, contexts or ()):
        return Verdict(outcome="error", metric=fresh.metric, reason=broken)
    problem, facts, estimate = _compared(fresh, now, before, contexts)
    if facts is None or estimate is None:
        verdict = by_texts(level)
        return dataclasses.replace(verdict, reason=f"{verdict.reason} ({problem})")
    outcome, reason, detectable = decided(facts, estimate, margin, level / 2)
    moved = f"{estimate.before:.4f} -> {estimate.now:.4f}, {signed_percent(-estimate.drop)}"
    # Fresh texts are tested only where they could change the verdict.
    if outcome != "regressed" and (sampled := by_texts(level / 2)).outcome == "regressed":
        reason = f"{sampled.reason}, though not in the same contexts ({moved})"
        if sampled.regime == "sampled":
            reason = (
                "fell on fresh texts of the new target by more than chance explains, though "
                f"not in the same contexts ({moved}), so the texts themselves became harder to "
                "draft"
            )
            sampled = dataclasses.replace(sampled, regime="target changed")
        return dataclasses.replace(sampled, reason=reason)
    if before.conditions.temperature == 0 and (
        surely := _surely_steady(outcome, fresh, margin, level / 2)
    ):
        # Smoothed acceptance also depends on how confident both models are.
        outcome, estimate = "pass", None
        reason = f"{surely}; smoothed, in the same contexts, the length moved ({moved})"
    return fresh.verdict(
        outcome=outcome,
        reason=reason,
        regime="target changed",
        limit=margin,
        detectable=detectable,
        estimate=estimate,
    )


def _surely_steady(
    outcome: Outcome, greedy: ComparisonFacts, margin: float, level: float
) -> str | None:
    """What greedy texts say where they contradict the smoothed counts beyond doubt; None where they
    do not.
    """
    low, high = greedy.bounds(level)
    if outcome in ("regressed", "inconclusive") and high < margin:
        moved = "fell"
    elif outcome == "improved" and low > -margin:
        moved = "rose"
    else:
        return None
    return (
        f"the tokens that are accepted on greedy texts {moved} by less than the margin, for other "
        "prompts like these, too"
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
    prompts = (
        prompts_to_bound(facts, level)
        if estimate.drop >= margin
        else prompts_to_detect(facts, _PRECISE * margin, level)
    )
    settle = f"about {prompts} prompts would settle it" if prompts else "use more prompts"
    return "inconclusive", (
        f"too few prompts to detect a drop of {percent(margin)} in the same contexts; {settle}"
    )


def _compared(
    fresh: ComparisonFacts,
    now: MeasuredCase,
    before: MeasuredCase,
    contexts: Sequence[SameContexts] | None,
) -> tuple[str, ComparisonFacts | None, Estimate | None]:
    """The comparison in the same contexts; why it cannot be made, where it cannot."""
    greedy = before.conditions.temperature == 0
    runs = [_run_on(before, measured) for measured in contexts or ()]
    stored = [run.contexts for run in runs if run is not None and run.contexts is not None]
    problem = _missing(now, before, contexts, stored)
    if problem is not None or contexts is None:
        return f"{_ALONE}: {problem}", None, None
    pair = Pair.of(stored, [measured.measured.counts for measured in contexts])
    share = min(measured.measured.effective_share for measured in contexts)
    if not pair.now.total_rounds > 0 or pair.prompts < fresh.pair.prompts:
        return f"{_ALONE}: some prompts have no stored text with log-probabilities", None, None
    if share < LEAST_EFFECTIVE:
        return (
            f"{_ALONE}: the old target's texts are too unlike the new one's "
            f"({share:.0%} of the contexts are effective)",
            None,
            None,
        )
    facts = ComparisonFacts.of(fresh.metric, pair, fresh.changed)
    unseen = max(measured.measured.unseen for measured in contexts) * facts.scale
    estimate = dataclasses.replace(
        facts.estimate("in the same contexts" + ", smoothed" * greedy),
        effective_share=None if greedy else share,
        unseen=unseen,
    )
    return "", facts, estimate


def _missing(
    now: MeasuredCase,
    before: MeasuredCase,
    contexts: Sequence[SameContexts] | None,
    stored: Sequence[Counts],
) -> str | None:
    """Which part of a comparison in the same contexts is missing; None where all are there.
    `stored` are the baseline's counts in the contexts, of the runs that have them.
    """
    if contexts is None:
        return f"texts of the old target with its log-probabilities are not stored; {_UPDATE}"
    if before.conditions.temperature == 0 and now.smoothing != before.smoothing:
        return f"the baseline was smoothed at another temperature; {_UPDATE}"
    if any(measured.target != before.fingerprints.target for measured in contexts):
        return (
            "the stored texts are no longer those of the old target, "
            "as after an update of another case that shares them; restore them from version "
            "control and update all cases together"
        )
    if len(stored) < len(contexts):
        return f"the baseline holds no acceptance in the contexts of the stored texts; {_UPDATE}"
    return None


def _broken(before: MeasuredCase, contexts: Sequence[SameContexts]) -> str | None:
    """Why stored files cannot be right: their log-probabilities, or a record whose contexts are not
    those of its texts. None where they may be.
    """
    for measured in contexts:
        run = _run_on(before, measured)
        if run is None or run.contexts is None:
            continue
        if measured.problem is not None:
            return measured.problem
        pair = Pair.of(run.contexts, measured.measured.counts)
        if (pair.before.rounds != pair.now.rounds).any():
            return (
                "the record counts contexts that its texts do not have; restore the record and its "
                "texts/ together from version control, or measure both again with "
                "--specdec-update=all"
            )
    return None


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
