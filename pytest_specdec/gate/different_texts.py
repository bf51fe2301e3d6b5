"""The verdict where the texts differ: prompts are paired and a permutation test decides."""

from __future__ import annotations

from .detectable import prompts_to_see
from .facts import ComparisonFacts
from .permutation import can_resolve, paired_permutation_test, too_few
from .verdict import Outcome, Verdict


def judge_different_texts(facts: ComparisonFacts, margin: float, level: float) -> Verdict:
    pair = facts.pair
    if not can_resolve(pair.prompts, level):
        reason = too_few(pair.prompts, level, "this gate")
        return Verdict(outcome="error", metric=facts.metric, reason=reason)
    swaps = paired_permutation_test(pair, level=level, seed=facts.seed)
    outcome: Outcome
    if swaps.p_value <= level and facts.drop >= margin:
        outcome, reason = "regressed", "fell by more than label swaps between the two runs explain"
    elif (
        facts.drop <= -margin
        and paired_permutation_test(pair, level=level, seed=facts.seed, gain=True).p_value <= level
    ):
        outcome, reason = "improved", "rose; --specdec-update=changed would keep the gain"
    else:
        outcome, reason = undecided(facts, margin, level)
    return facts.verdict(
        outcome=outcome,
        reason=reason,
        regime="sampled",
        limit=margin,
        detectable=facts.detectable(margin, level),
        swaps=swaps,
    )


def undecided(facts: ComparisonFacts, margin: float, level: float) -> tuple[Outcome, str]:
    """Pass where the drop is surely below the margin, else inconclusive with the number of prompts
    that would settle it.
    """
    if facts.pair.upper_bound(level) * facts.scale < margin:
        return "pass", "not inferior: the drop's upper bound is below the margin"
    prompts = prompts_to_see(facts.pair, margin / facts.inflation, level=level)
    settle = (
        f"about {prompts} prompts would settle it"
        if prompts
        else "a margin above 0 would settle it"
    )
    reason = f"on other texts, too few prompts to tell {margin:.2%} from chance; {settle}"
    return "inconclusive", reason
