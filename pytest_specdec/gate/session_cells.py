"""By which test a session judges a case, known before it is judged."""

from __future__ import annotations

from ..records.measured import MeasuredCase
from .comparability import changes, incomparable, unusable
from .paired import Pair


def swapped_pair(now: MeasuredCase, before: MeasuredCase, *, subset: bool = False) -> Pair | None:
    """The pair of a case that label swaps judge; None where the case is an error or judged on the
    same texts.
    """
    now = _shared(now, before, subset)
    if incomparable(now, before, subset=subset) or before.runs_on_same_texts(now) is not None:
        return None
    pair = Pair.of(before.counts_of_runs, now.counts_of_runs)
    return None if unusable(pair, before, "acceptance_length") else pair


def judged_apart(now: MeasuredCase, before: MeasuredCase, *, subset: bool = False) -> bool:
    """Whether a case is judged on the same texts at a share of alpha of its own: something changed,
    so chance has a part. Where nothing did, the verdict is exact.
    """
    now = _shared(now, before, subset)
    return (
        not incomparable(now, before, subset=subset)
        and before.runs_on_same_texts(now) is not None
        and (bool(changes(now, before)) or len(now.prompts) < len(before.prompts))
    )


def _shared(now: MeasuredCase, before: MeasuredCase, subset: bool) -> MeasuredCase:
    """Now without the prompts that have no baseline, which a subset leaves out."""
    known = set(before.prompts)
    return now.only(known) if subset and known < set(now.prompts) else now
