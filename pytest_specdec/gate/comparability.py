"""Whether two measurements may be compared, and what differs between them."""

from __future__ import annotations

from ..cases.case import REPLAYING
from ..records.measured import MeasuredCase
from .paired import Pair
from .refusals import dead_drafter


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

    With `subset` either may lack some of the other's prompts; with `fresh` texts are newly sampled
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
    known = None not in (now.seed, before.seed) and bool(now.conditions.temperature)
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
