"""The verdict where the same weights replay the same texts: the change is exact."""

from __future__ import annotations

from ..records.measured import MeasuredCase
from .facts import ComparisonFacts
from .permutation import can_resolve, paired_permutation_test
from .verdict import Outcome, Verdict

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-3, "float16": 1e-3}
"""Relative change that the same models in the same environment may show: last bits, near-ties."""

UNCHANGED = 1e-4
"""Relative change below which a verdict says `unchanged`."""
KEEP = "--specdec-update=changed would keep the gain"


def judge_same_weights(
    facts: ComparisonFacts, margin: float, level: float, now: MeasuredCase, before: MeasuredCase
) -> Verdict:
    """The verdict where the weights are those of the baseline, on the same texts."""
    # In half precision rounding also depends on which texts share a batch.
    regrouped = facts.pair.prompts < len(before.prompts) and now.environment.dtype != "float32"
    if regrouped or now.environment != before.environment:
        return _judge_environment(facts, margin, level, now)
    tolerance = rounding(now)
    outcome: Outcome = "pass"
    reason = "unchanged" if abs(facts.drop) < tolerance else "moved by less than rounding"
    if facts.drop >= tolerance:
        outcome = "regressed"
        reason = "fell with the same weights, texts and environment, so the code changed it"
    elif facts.drop <= -tolerance:
        outcome = "improved"
        reason = f"rose with the same weights, texts and environment; {KEEP}"
    return facts.verdict(
        outcome=outcome,
        reason=reason,
        regime="same weights",
        limit=tolerance,
        detectable=tolerance,
    )


def rounding(now: MeasuredCase) -> float:
    """The relative change that rounding alone may cause in one environment."""
    return TOLERANCE.get(now.environment.dtype, max(TOLERANCE.values()))


def _judge_environment(
    facts: ComparisonFacts, margin: float, level: float, now: MeasuredCase
) -> Verdict:
    """In another environment rounding moves near-ties, so a change must reach the margin and be
    larger than chance explains.
    """
    limit = max(margin, rounding(now))
    outcome: Outcome = "pass"
    reason = (
        "unchanged in another environment"
        if abs(facts.drop) < rounding(now)
        else "moved by less than the margin in another environment"
    )
    swaps = None
    if abs(facts.drop) >= limit:
        gain = facts.drop < 0
        swaps = paired_permutation_test(facts.pair, level=level, seed=facts.seed, gain=gain)
        # Too few prompts to test: the change itself decides.
        real = swaps.p_value <= level or not can_resolve(facts.pair.prompts, level)
        if gain:
            outcome = "improved" if real else "pass"
            reason = (
                f"rose in another environment; {KEEP}"
                if real
                else "rose in another environment, by no more than its rounding may explain"
            )
            swaps = None
        else:
            outcome = "regressed" if real else "inconclusive"
            reason = (
                "fell in another environment, by more than its rounding explains"
                if real
                else "fell in another environment, by no more than its rounding may explain"
            )
    return facts.verdict(
        outcome=outcome,
        reason=reason,
        regime="another environment",
        limit=limit,
        detectable=limit,
        swaps=swaps,
    )
