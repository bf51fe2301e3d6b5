"""The judgement of one case against its baseline.

Two regimes. *Deterministic*: both records replay the same texts, so the change is exact and nothing
is random; it fails from the margin on, or from a numerical tolerance on where nothing at all was
changed. In another environment rounding moves near-ties, so there the drop must also pass the
permutation test. *Sampled*: the texts are others, because the target changed or the engine emits
its own; prompts are paired and a permutation test decides.
"""

from __future__ import annotations

import dataclasses
import zlib
from typing import TYPE_CHECKING, Literal

from ..baselines.schema import Record
from ..cases.case import REPLAYING
from .detectable import prompts_to_see, smallest_detectable_drop
from .paired import Pair
from .permutation import Swaps, can_resolve, swap_test, too_few
from .refusals import dead_drafter

if TYPE_CHECKING:
    from .speedup_gate import CostChange

Outcome = Literal["pass", "improved", "regressed", "inconclusive", "error"]
Regime = Literal["deterministic", "sampled"]

TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-3, "float16": 1e-3}
"""Relative change that the same models in the same environment may show: last bits, near-ties."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the gate says, with every number that its message and the report print. Drops are
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
    now: Record,
    before: Record,
    *,
    metric: str = "acceptance_length",
    margin: float,
    alpha: float = 0.01,
    gates: int = 1,
    subset: bool = False,
) -> Verdict:
    """Compare a measured record with a stored one.

    `margin` is the relative drop that matters, `alpha` the session's false-alarm rate, shared by
    `gates` gates; with `subset` either may hold some of the other's prompts only, and those are
    judged. Speed-up under one cost profile and, where every round drafts k tokens, the acceptance
    rate fall and rise with the acceptance length, so one test serves.
    """
    unknown = set(now.counts) - set(before.counts)
    if subset and unknown and set(before.counts) <= set(now.counts):
        told = f"; {len(unknown)} of {len(now.counts)} prompts have no baseline and were not judged"
        verdict = judge(
            now.only(before.counts),
            before,
            metric=metric,
            margin=margin,
            alpha=alpha,
            gates=gates,
            subset=True,
        )
        return dataclasses.replace(verdict, reason=verdict.reason + told)
    if problems := incomparable(now, before, subset=subset):
        return Verdict("error", metric, "; ".join(problems))
    twins = before.runs_on_same_texts(now)
    pair = Pair.of((twins or before).runs_as_counts(), now.runs_as_counts())
    if problem := unusable(pair, before, metric, same_texts=twins is not None):
        return Verdict("error", metric, problem)
    facts = ComparisonFacts.of(metric, pair, changes(now, before))
    if twins is not None:
        return _deterministic(facts, margin, alpha / gates, now, before)
    return _sampled(facts, margin, alpha / gates)


def unusable(pair: Pair, stored: Record, metric: str, *, same_texts: bool = False) -> str | None:
    """Why a pair cannot be judged: no rounds, a dead drafter as the reference, or rates that are
    not comparable.
    """
    if not (pair.before.total_rounds > 0 and pair.now.total_rounds > 0):
        return "no rounds to judge; use longer texts or a smaller k"
    if problem := dead_drafter(stored.as_counts()):  # all of its prompts, however few are compared
        return (
            f"the baseline cannot be one: {problem}, then record a working one with "
            "--specdec-update=changed"
        )
    if metric == "acceptance_rate" and not same_texts and not pair.steady:
        old, new = (side.drafted.sum() / side.total_rounds for side in (pair.before, pair.now))
        return (
            f"drafts a round vary ({old:.2f} -> {new:.2f}), and the acceptance rate with them; "
            "judge the acceptance length"
        )
    return None


def incomparable(
    now: Record, before: Record, *, subset: bool = False, fresh: bool = False
) -> list[str]:
    """Why two records must not be compared: another definition, condition, prompt set or texts.
    Empty when they may.

    With `subset` either may lack some of the other's prompts, with `fresh` texts are sampled anew
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
    new, gone = set(now.counts) - set(before.counts), set(before.counts) - set(now.counts)
    if not now.counts:
        problems.append("no prompt of the baseline was run")
    if new or (gone and not subset):
        problems.append(f"the prompt set changed: {len(new)} new, {len(gone)} gone")
    if not (problems or fresh) and (others := _texts_of_others(now, before)):
        problems.append(others)
    return problems


def _texts_of_others(now: Record, before: Record) -> str | None:
    """Why texts do not belong to the record: an unchanged target's stored texts are the record's
    own, seed by seed.
    """
    if (
        before.conditions.engine not in REPLAYING
        or now.fingerprints.target != before.fingerprints.target
    ):
        return None
    # A seed is unknown in files of schema 1; greedy texts are the same for every seed.
    known = None not in (now.seed, before.seed) and now.conditions.temperature > 0
    first = (now.seed or 0) - (before.seed or 0) if known else 0
    pairs = [
        (before.runs[at + first], rows)
        for at, rows in enumerate(now.runs)
        if 0 <= at + first < len(before.runs)
    ]
    shared = [
        (old[key].text, row.text) for old, rows in pairs for key, row in rows.items() if key in old
    ]
    others = sum(old != new for old, new in shared)
    if not others:
        return None
    return (
        f"the texts are not those of the record, though target, seed and settings are ({others} of "
        f"{len(shared)} differ): "
        "restore the record and its texts/ together from version control, or measure both anew "
        "with --specdec-update=all"
    )


def changes(now: Record, before: Record) -> tuple[str, ...]:
    """What is under test, or around it, and differs from the baseline."""
    found = []
    for role in ("target", "drafter"):
        old, new = getattr(before.fingerprints, role), getattr(now.fingerprints, role)
        if old != new:
            found.append(f"{role} weights or configuration ({old} -> {new})")
    found += [
        f"environment ({difference})"
        for difference in now.environment.differences(before.environment)
    ]
    return tuple(found)


@dataclasses.dataclass(frozen=True)
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
            metric,
            pair,
            1 / (pair.before.expected_accepted if rate else pair.before.acceptance_length),
            changed,
        )

    @property
    def drop(self) -> float:
        """Relative; negative for a gain. The rate's own, for it moves with the drafts of a round,
        too.
        """
        if self.metric == "acceptance_rate":
            return 1 - self.pair.now.acceptance_rate / self.pair.before.acceptance_rate
        return self.pair.length_drop * self.scale

    @property
    def inflation(self) -> float:
        """Relative drops of this metric for one of the acceptance length."""
        return self.scale * self.pair.before.acceptance_length

    @property
    def seed(self) -> int:
        """The same swaps for the same prompts, whoever runs them."""
        return zlib.crc32("".join(self.pair.now.prompts).encode())

    def detectable(self, margin: float, level: float) -> float | None:
        found = smallest_detectable_drop(self.pair, level=level, margin=margin / self.inflation)
        return None if found is None else found * self.inflation

    def verdict(
        self,
        outcome: Outcome,
        reason: str,
        regime: Regime,
        limit: float,
        detectable: float | None,
        swaps: Swaps | None,
    ) -> Verdict:
        value = "acceptance_rate" if self.metric == "acceptance_rate" else "acceptance_length"
        beside = self.drop - self.pair.length_drop * self.scale
        low, high = (bound * self.scale + beside for bound in self.pair.interval())
        p, position = (None, None) if swaps is None else (swaps.p_value, swaps.position)
        return Verdict(
            outcome,
            self.metric,
            reason,
            regime,
            getattr(self.pair.before, value),
            getattr(self.pair.now, value),
            self.drop,
            (low, high),
            p,
            limit,
            detectable,
            position,
            None,
            self.changed,
            self.pair,
        )


def _deterministic(
    facts: ComparisonFacts, margin: float, level: float, now: Record, before: Record
) -> Verdict:
    """On the same texts nothing is random, save how another environment rounds: there a drop must
    beat that, too.
    """
    tolerance = TOLERANCE.get(now.environment.dtype, max(TOLERANCE.values()))
    # In half precision rounding depends on which texts share a batch, too.
    regrouped = facts.pair.prompts < len(before.counts) and now.environment.dtype != "float32"
    limit = max(margin, tolerance) if facts.changed or regrouped else tolerance
    rounded_anew = (regrouped or now.environment != before.environment) and can_resolve(
        facts.pair.prompts, level
    )
    swaps = (
        swap_test(facts.pair, level=level, seed=facts.seed)
        if rounded_anew and facts.drop >= limit
        else None
    )
    outcome: Outcome
    if swaps is not None and swaps.p_value > level:
        outcome, reason = (
            "inconclusive",
            "fell in another environment, by no more than its rounding may explain",
        )
    elif facts.drop >= limit:
        why = "the same texts" if facts.changed else "the same texts, models and environment"
        chance = "by more than rounding explains" if swaps else "which leaves no room for chance"
        outcome, reason = "regressed", f"fell on {why}, {chance}"
    elif facts.drop <= -limit:
        outcome, reason = (
            "improved",
            "rose on the same texts; --specdec-update=changed would keep the gain",
        )
        if (
            rounded_anew
            and swap_test(facts.pair, level=level, seed=facts.seed, gain=True).p_value > level
        ):
            outcome, reason = (
                "pass",
                "rose in another environment, by no more than its rounding may explain",
            )
    else:
        outcome, reason = (
            "pass",
            "unchanged" if abs(facts.drop) < tolerance else "moved by less than the margin",
        )
    return facts.verdict(outcome, reason, "deterministic", limit, limit, swaps)


def _sampled(facts: ComparisonFacts, margin: float, level: float) -> Verdict:
    pair = facts.pair
    if not can_resolve(pair.prompts, level):
        return Verdict("error", facts.metric, too_few(pair.prompts, level, "this gate"))
    swaps = swap_test(pair, level=level, seed=facts.seed)
    outcome: Outcome
    if swaps.p_value <= level and facts.drop >= margin:
        outcome, reason = "regressed", "fell by more than label swaps between the two runs explain"
    elif (
        facts.drop <= -margin
        and swap_test(pair, level=level, seed=facts.seed, gain=True).p_value <= level
    ):
        outcome, reason = "improved", "rose; --specdec-update=changed would keep the gain"
    else:
        outcome, reason = undecided(facts, margin, level)
    return facts.verdict(outcome, reason, "sampled", margin, facts.detectable(margin, level), swaps)


def undecided(facts: ComparisonFacts, margin: float, level: float) -> tuple[Outcome, str]:
    """Pass where the drop is surely below the margin, else inconclusive with the number of prompts
    that would settle it.
    """
    if facts.pair.upper_bound(level) * facts.scale < margin:
        return "pass", "not inferior: the drop's upper bound is below the margin"
    enough = prompts_to_see(facts.pair, margin / facts.inflation, level=level)
    settle = (
        f"about {enough} prompts would settle it" if enough else "a margin above 0 would settle it"
    )
    return "inconclusive", f"other texts, too few to tell {margin:.2%} from chance; {settle}"
