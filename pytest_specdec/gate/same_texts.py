"""The verdict where both sides replay the same texts: the change is exact."""

from __future__ import annotations

from ..records.measured import MeasuredCase
from .facts import ComparisonFacts
from .permutation import can_resolve, paired_permutation_test
from .verdict import Outcome, Verdict

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-3, "float16": 1e-3}
"""Relative change that the same models in the same environment may show: last bits, near-ties."""


def judge_same_texts(
    facts: ComparisonFacts, margin: float, level: float, now: MeasuredCase, before: MeasuredCase
) -> Verdict:
    """On the same texts nothing is random, except how another environment rounds: there a drop must
    also be larger than rounding explains.
    """
    tolerance = TOLERANCE.get(now.environment.dtype, max(TOLERANCE.values()))
    # In half precision rounding also depends on which texts share a batch.
    regrouped = facts.pair.prompts < len(before.prompts) and now.environment.dtype != "float32"
    limit = max(margin, tolerance) if facts.changed or regrouped else tolerance
    rounded_anew = (regrouped or now.environment != before.environment) and can_resolve(
        facts.pair.prompts, level
    )
    swaps = (
        paired_permutation_test(facts.pair, level=level, seed=facts.seed)
        if rounded_anew and facts.drop >= limit
        else None
    )
    outcome: Outcome
    if swaps is not None and swaps.p_value > level:
        outcome = "inconclusive"
        reason = "fell in another environment, by no more than its rounding may explain"
    elif facts.drop >= limit:
        outcome = "regressed"
        texts = "the same texts" if facts.changed else "the same texts, models and environment"
        chance = "by more than rounding explains" if swaps else "so this is not sampling noise"
        reason = f"fell on {texts}, {chance}"
    elif facts.drop <= -limit:
        outcome = "improved"
        reason = "rose on the same texts; --specdec-update=changed would keep the gain"
        if (
            rounded_anew
            and paired_permutation_test(facts.pair, level=level, seed=facts.seed, gain=True).p_value
            > level
        ):
            outcome = "pass"
            reason = "rose in another environment, by no more than its rounding may explain"
    else:
        outcome = "pass"
        reason = "unchanged" if abs(facts.drop) < tolerance else "moved by less than the margin"
    return facts.verdict(
        outcome=outcome,
        reason=reason,
        regime="deterministic",
        limit=limit,
        detectable=limit,
        swaps=swaps,
    )
