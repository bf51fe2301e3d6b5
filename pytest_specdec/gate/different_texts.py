"""The verdict where the texts differ: prompts are paired and a permutation test decides."""

from __future__ import annotations

from ..common.percent import percent
from .detectable import prompts_to_see
from .facts import ComparisonFacts
from .permutation import can_resolve, too_few
from .session_test import CellTest, SwapResult
from .verdict import Outcome, Verdict


def judge_different_texts(
    facts: ComparisonFacts, margin: float, level: float, test: CellTest | None = None
) -> Verdict:
    """`level` is the gate's own share of alpha, at which it passes; `test` is its place in the
    session's test, by which it fails. Without one it is tested alone.
    """
    pair, test = facts.pair, test or CellTest.alone(level)
    smallest = test.level(pair)
    if not can_resolve(pair.prompts, smallest):
        reason = too_few(pair.prompts, smallest, "this gate")
        return Verdict(outcome="error", metric=facts.metric, reason=reason)
    swaps = test.drop(pair)
    outcome: Outcome
    if swaps.rejects and facts.drop >= margin:
        outcome, reason = "regressed", "fell by more than chance explains"
    elif facts.drop <= -margin and test.gain(pair).rejects:
        outcome, reason = "improved", "rose; --specdec-update=changed would keep the gain"
    else:
        outcome, reason = undecided(facts, margin, level)
    return facts.verdict(
        outcome=outcome,
        reason=reason + _adjusted(swaps),
        regime="sampled",
        limit=margin,
        detectable=facts.detectable(margin, level),
        swaps=swaps,
    )


def _adjusted(swaps: SwapResult) -> str:
    """What to know of a p-value that is not the cell's own."""
    if swaps.cells == 1:
        return ""
    return f"; p is adjusted for the {swaps.cells} cases of the session that are tested together"


def undecided(facts: ComparisonFacts, margin: float, level: float) -> tuple[Outcome, str]:
    """Pass where the drop is surely below the margin, else inconclusive with the number of prompts
    that would settle it.
    """
    if facts.bounds(level)[1] < margin:
        return "pass", "not inferior: the drop's upper bound is below the margin"
    prompts = prompts_to_see(facts.pair, margin / facts.inflation, level=level)
    settle = (
        f"about {prompts} prompts would settle it"
        if prompts
        else "a margin above 0 would settle it"
    )
    reason = f"on other texts, too few prompts to detect a drop of {percent(margin)}; {settle}"
    return "inconclusive", reason
