"""The verdict where the drafter's weights changed and the target's did not: both sides replay the
same texts.

Acceptance on these texts is an expectation without noise, so only the choice of prompts is random:
a drop fails where it reaches the margin here and is above 0 for other prompts like these, at the
gate's level. At temperature 0 acceptance jumps where an arg-max of the draft flips at a near-tie,
so there the smoothed counts decide (see `acceptance.scores.SMOOTHING`), and the exact ones are
reported beside them. Smoothed counts also depend on how confident the draft is: a draft whose
logits are all halved drafts the same tokens and looks worse. So the exact counts overrule them
where their bounds for other prompts surely say otherwise; to fail a case their drop must also be
larger than near-ties explain (see `NEAR_TIES`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..common.percent import percent, signed_percent
from ..records.measured import MeasuredCase, MeasuredRun
from .detectable import prompts_to_bound, smallest_bounded_drop
from .facts import ComparisonFacts
from .paired import Pair
from .same_texts import KEEP, UNCHANGED, rounding
from .verdict import Outcome, Verdict

NEAR_TIES = 0.04
"""Largest drop of exact greedy counts that near-ties explain. Prompts share near-ties, so a flip
moves many of them together, and bounds over prompts do not see it: weight noise of 0.5 % moved the
embedded pair's grid by 3.5 % at most in 200 seeds (docs/changed-weights.md).
"""


def judge_changed_drafter(
    facts: ComparisonFacts,
    margin: float,
    level: float,
    now: MeasuredCase,
    before: MeasuredCase,
    stored: Sequence[MeasuredRun],
) -> Verdict:
    """The verdict on the same texts; `stored` are the baseline's runs on them."""
    margin = max(margin, rounding(now))
    if now.conditions.temperature:
        outcome, reason = bounded(facts, margin, level)
        return facts.verdict(
            outcome=outcome,
            reason=reason,
            regime="drafter changed",
            limit=margin,
            detectable=smallest_bounded_drop(facts, margin, level),
        )
    smooth = _smoothed(facts, now, before, stored)
    if smooth is None:
        outcome, reason = bounded(facts, margin, level)
        reason += (
            "; this engine counts rounds and has no smoothed counts, so the exact ones decided, "
            "which jump at near-ties"
            if now.smoothing is None
            else "; the baseline holds no smoothed counts, so the exact ones decided, which jump "
            "at near-ties (--specdec-update=all stores them)"
        )
    elif exact := _contradicted(smooth, facts, margin, level):
        outcome, reason = exact
        smooth = None
    else:
        outcome, reason = bounded(smooth, margin, level)
    return facts.verdict(
        outcome=outcome,
        reason=reason,
        regime="greedy drafter changed",
        limit=margin,
        detectable=smallest_bounded_drop(facts if smooth is None else smooth, margin, level),
        estimate=None
        if smooth is None
        else smooth.estimate(f"smoothed at temperature {now.smoothing:g}"),
    )


def stale_smoothed(
    facts: ComparisonFacts,
    now: MeasuredCase,
    before: MeasuredCase,
    stored: Sequence[MeasuredRun],
) -> str | None:
    """Why stored smoothed counts cannot be those of the same weights on the same texts; None where
    they may be: where the exact counts moved, too, the code moved both.
    """
    smooth = _smoothed(facts, now, before, stored)
    moved = 0.0 if smooth is None else abs(smooth.drop - facts.drop)
    unchanged = now.environment == before.environment and abs(facts.drop) < rounding(now)
    if not unchanged or moved < 2 * rounding(now):
        return None
    return (
        "the record's smoothed counts are not those of its pair (they differ by "
        f"{percent(moved)} with the same weights and texts), so no later drafter can be judged by "
        "them; restore the record from version control, or measure it again with "
        "--specdec-update=all"
    )


def _contradicted(
    smooth: ComparisonFacts, exact: ComparisonFacts, margin: float, level: float
) -> tuple[Outcome, str] | None:
    """Outcome and reason where the exact counts surely say otherwise than the smoothed ones; None
    where they do not.
    """
    outcome, _ = bounded(smooth, margin, level)
    low, high = exact.bounds(level)
    smoothed = f"the counts smoothed at a small temperature moved by {signed_percent(-smooth.drop)}"
    if outcome != "regressed" and low >= margin and exact.drop >= NEAR_TIES:
        return "regressed", (
            "the tokens that are accepted fell by more than the margin, for other prompts like "
            f"these, too, and by more than near-ties explain ({NEAR_TIES:.0%}); {smoothed} alone"
        )
    fell, rose = outcome in ("regressed", "inconclusive"), outcome == "improved"
    if (fell and high < margin) or (rose and low > -margin):
        return "pass", (
            "the tokens that are accepted moved by less than the margin, for other prompts like "
            f"these, too; {smoothed}, because the draft is {'less' if fell else 'more'} confident"
        )
    return None


def bounded(facts: ComparisonFacts, margin: float, level: float) -> tuple[Outcome, str]:
    """Outcome and reason of an exact change on given prompts, by its bound for other prompts."""
    low, high = facts.bounds(level)
    if facts.drop < margin:
        if facts.drop <= -margin and high < 0:
            return "improved", f"rose on the same texts; {KEEP}"
        small = abs(facts.drop) < UNCHANGED
        return "pass", "unchanged" if small else "moved by less than the margin on the same texts"
    if low > 0:
        return (
            "regressed",
            "fell on the same texts by the margin or more, and for other prompts like these, too",
        )
    prompts = prompts_to_bound(facts, level)
    settle = f"about {prompts} prompts would settle it" if prompts else "use more prompts"
    return "inconclusive", (
        "fell on the same texts in so few prompts that it may not for other prompts like these; "
        f"{settle}"
    )


def _smoothed(
    facts: ComparisonFacts,
    now: MeasuredCase,
    before: MeasuredCase,
    stored: Sequence[MeasuredRun],
) -> ComparisonFacts | None:
    """The same comparison by smoothed counts; None where either side lacks them."""
    old = [run.smoothed for run in stored if run.smoothed is not None]
    new = [run.smoothed for run in now.runs if run.smoothed is not None]
    same = now.smoothing == before.smoothing
    if not same or len(old) < len(stored) or len(new) < len(now.runs):
        return None
    return ComparisonFacts.of(facts.metric, Pair.of(old, new), facts.changed)
