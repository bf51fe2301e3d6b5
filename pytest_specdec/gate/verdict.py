"""The verdict on one case against its baseline.

Two regimes. *Deterministic*: both sides replay the same texts, so the change is exact and nothing
is random. It fails from the margin on, or from a numerical tolerance on where neither models nor
environment changed. In another environment rounding moves near-ties, so there the drop must also
pass the permutation test. *Sampled*: the texts differ, because the target changed or the engine
emits its own; prompts are paired and a permutation test decides.
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import Literal

from ..cases.case import REPLAYING
from ..records.measured import MeasuredCase
from .cost_change import CostChange
from .detectable import prompts_to_see, smallest_detectable_drop
from .paired import Pair
from .permutation import PermutationResult, can_resolve, paired_permutation_test, too_few
from .refusals import dead_drafter

Outcome = Literal["pass", "improved", "regressed", "inconclusive", "error"]
Regime = Literal["deterministic", "sampled"]

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-3, "float16": 1e-3}
"""Relative change that the same models in the same environment may show: last bits, near-ties."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate decided, with every number that its message and the report print. Drops are
    relative.
    """

    outcome: Outcome
    metric: str
    reason: str
    regime: Regime | None = None
    before: float | None = None
    now: float | None = None
    drop: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    limit: float | None = None
    """The relative drop from which this gate fails."""
    smallest_detectable_drop: float | None = None
    position: int | None = None
    """Which metric's drop the test found largest: 0 is the acceptance length, i the survival of
    position i.
    """
    evidence: float | None = None
    """The e-process after this run, where evidence accumulates."""
    changed: tuple[str, ...] = ()
    pair: Pair | None = dataclasses.field(default=None, compare=False, repr=False)
    costs: CostChange | None = None
    """Where a speed-up's costs changed, too."""

    def passes(self, inconclusive: str = "fail") -> bool:
        """Whether the test passes; `inconclusive` is `fail` or `warn`."""
        return self.outcome in ("pass", "improved") or (
            self.outcome == "inconclusive" and inconclusive == "warn"
        )


def judge(
    now: MeasuredCase,
    before: MeasuredCase,
    *,
    metric: str = "acceptance_length",
    margin: float,
    alpha: float = 0.01,
    gates: int = 1,
    subset: bool = False,
) -> Verdict:
    """Compare a case as measured `now` with its baseline `before`.

    `margin` is the relative drop that matters, `alpha` the session's false-alarm rate, shared by
    `gates` gates. With `subset` either side may lack some of the other's prompts; the shared ones
    are judged. Speed-up under one cost profile and, where every round drafts k tokens, the
    acceptance rate fall and rise with the acceptance length, so one test serves.
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
        return _deterministic(facts, margin, alpha / gates, now, before)
    return _sampled(facts, margin, alpha / gates)


def unusable(
    pair: Pair, stored: MeasuredCase, metric: str, *, same_texts: bool = False
) -> str | None:
    """Why a pair cannot be judged: no rounds, a baseline with a dead drafter, or rates that are not
    comparable. None where it can.
    """
    if not (pair.before.total_rounds > 0 and pair.now.total_rounds > 0):
        return "no rounds to judge; use longer texts or a smaller k"
    if problem := dead_drafter(stored.counts):  # all of its prompts, however few are compared
        return (
            f"the stored record is not a valid baseline: {problem}, then record a working one with "
            "--specdec-update=changed"
        )
    if metric == "acceptance_rate" and not same_texts and not pair.steady:
        old, new = (side.drafted.sum() / side.total_rounds for side in (pair.before, pair.now))
        return (
            f"the number of drafted tokens per round changed ({old:.2f} -> {new:.2f}), so "
            "acceptance rates are not comparable; compare acceptance_length"
        )
    return None


def incomparable(
    now: MeasuredCase, before: MeasuredCase, *, subset: bool = False, fresh: bool = False
) -> list[str]:
    """Why two measurements must not be compared: another definition, condition, prompt set or
    texts. Empty where they may.

    With `subset` either may lack some of the other's prompts; with `fresh` texts are sampled anew
    on purpose.
    """
    problems = []
    if now.definition != before.definition:
        problems.append(
            f"the baseline counts by definition {before.definition!r}, this version by "
            f"{now.definition!r}"
        )
    for name in now.conditions.__struct_fields__:
        old, new = getattr(before.conditions, name), getattr(now.conditions, name)
        if old != new:
            problems.append(f"{name} was {old!r} in the baseline and is {new!r}")
    new, gone = set(now.prompts) - set(before.prompts), set(before.prompts) - set(now.prompts)
    if not now.prompts:
        problems.append("no prompt of the baseline was run")
    if new or (gone and not subset):
        problems.append(f"the prompt set changed: {len(new)} new, {len(gone)} gone")
    if not (problems or fresh) and (problem := _foreign_texts(now, before)):
        problems.append(problem)
    return problems


def _foreign_texts(now: MeasuredCase, before: MeasuredCase) -> str | None:
    """Why the stored texts do not belong to the record: of an unchanged target they are the texts
    of the record, seed by seed. None where they do.
    """
    if (
        before.conditions.engine not in REPLAYING
        or now.fingerprints.target != before.fingerprints.target
    ):
        return None
    # Files of schema 1 hold no seed; greedy texts are the same for every seed.
    known = None not in (now.seed, before.seed) and now.conditions.temperature > 0
    first = (now.seed or 0) - (before.seed or 0) if known else 0
    pairs = [
        (before.runs[at + first].text_fingerprints, run.text_fingerprints)
        for at, run in enumerate(now.runs)
        if 0 <= at + first < len(before.runs)
    ]
    shared = [
        (old[prompt], new[prompt]) for old, new in pairs for prompt in now.prompts if prompt in old
    ]
    different = sum(old != new for old, new in shared)
    if not different:
        return None
    return (
        "the texts are not those of the record, although target, seed and settings are "
        f"({different} of {len(shared)} differ); restore the record and its texts/ together from "
        "version control, or measure both again with --specdec-update=all"
    )


def changes(now: MeasuredCase, before: MeasuredCase) -> tuple[str, ...]:
    """Models and parts of the environment that differ from the baseline's."""
    changed = []
    for role in ("target", "drafter"):
        old, new = getattr(before.fingerprints, role), getattr(now.fingerprints, role)
        if old != new:
            changed.append(f"{role} weights or configuration ({old} -> {new})")
    changed += [
        f"environment ({difference})"
        for difference in now.environment.differences(before.environment)
    ]
    return tuple(changed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparisonFacts:
    """What every regime's verdict reports."""

    metric: str
    pair: Pair
    scale: float
    """Relative drop of the metric per token of acceptance length."""
    changed: tuple[str, ...]

    @classmethod
    def of(cls, metric: str, pair: Pair, changed: tuple[str, ...]) -> ComparisonFacts:
        rate = metric == "acceptance_rate"
        return cls(
            metric=metric,
            pair=pair,
            scale=1 / (pair.before.expected_accepted if rate else pair.before.acceptance_length),
            changed=changed,
        )

    @property
    def drop(self) -> float:
        """Relative; negative for a gain. The acceptance rate has a drop of its own, because it also
        depends on the drafted tokens per round.
        """
        if self.metric == "acceptance_rate":
            return 1 - self.pair.now.acceptance_rate / self.pair.before.acceptance_rate
        return self.pair.length_drop * self.scale

    @property
    def inflation(self) -> float:
        """Relative drop of this metric per relative drop of the acceptance length."""
        return self.scale * self.pair.before.acceptance_length

    @property
    def seed(self) -> int:
        """Of the permutation test: the same prompts always get the same swaps."""
        return zlib.crc32("".join(self.pair.now.prompts).encode())

    def detectable(self, margin: float, level: float) -> float | None:
        drop = smallest_detectable_drop(self.pair, level=level, margin=margin / self.inflation)
        return None if drop is None else drop * self.inflation

    def verdict(
        self,
        *,
        outcome: Outcome,
        reason: str,
        regime: Regime,
        limit: float,
        detectable: float | None,
        swaps: PermutationResult | None = None,
    ) -> Verdict:
        value = "acceptance_rate" if self.metric == "acceptance_rate" else "acceptance_length"
        offset = self.drop - self.pair.length_drop * self.scale
        low, high = (bound * self.scale + offset for bound in self.pair.interval())
        return Verdict(
            outcome=outcome,
            metric=self.metric,
            reason=reason,
            regime=regime,
            before=getattr(self.pair.before, value),
            now=getattr(self.pair.now, value),
            drop=self.drop,
            interval=(low, high),
            p_value=None if swaps is None else swaps.p_value,
            limit=limit,
            smallest_detectable_drop=detectable,
            position=None if swaps is None else swaps.position,
            changed=self.changed,
            pair=self.pair,
        )


def _deterministic(
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


def _sampled(facts: ComparisonFacts, margin: float, level: float) -> Verdict:
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
