"""By which tests a session judges a case, known before it is judged."""

from __future__ import annotations

from ..cases.case import REPLAYING
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


def share_kept(now: MeasuredCase, before: MeasuredCase, *, subset: bool = False) -> float:
    """The part of a case's share of alpha that other tests than label swaps keep.

    On the same texts all of it where something changed, so that chance has a part, and nothing
    where the verdict is exact. Half of it where the target changed and the same contexts are
    compared, too. An error has none.
    """
    now = _shared(now, before, subset)
    if incomparable(now, before, subset=subset):
        return 0.0
    if before.runs_on_same_texts(now) is not None:
        regrouped = len(now.prompts) < len(before.prompts)
        return 1.0 if regrouped or changes(now, before) else 0.0
    compares_contexts = (
        now.conditions.engine in REPLAYING
        and now.fingerprints.target != before.fingerprints.target
        and any(run.contexts is not None for run in before.runs)
    )
    return 0.5 if compares_contexts else 0.0


def _shared(now: MeasuredCase, before: MeasuredCase, subset: bool) -> MeasuredCase:
    """Now without the prompts that have no baseline, which a subset leaves out."""
    known = set(before.prompts)
    return now.only(known) if subset and known < set(now.prompts) else now
