"""The runs that are measured for a case: one, its repeats, or the next one to accumulate, each with
a seed of its own.
"""

from __future__ import annotations

import dataclasses

from ..cases.case import Case
from .store import BaselineStore, current_evidence


def measured_cases(
    case: Case,
    store: BaselineStore,
    *,
    repeats: int | None = None,
    rewrites: bool = False,
    accumulate: bool = False,
) -> tuple[Case, ...]:
    """The case with each seed to be measured now, in order.

    `repeats` is None for one run or, where the session `rewrites` baselines, for as many as are
    stored. Repeats take the seed of the case and those that follow it; accumulated runs take the
    seeds after the baseline's repeats, so that each one is fresh.
    """
    if accumulates(case, accumulate):
        record = store.record(case)
        earlier = () if record is None else current_evidence(store, case, record)
        return (seeded(case, (1 if record is None else record.repeats) + len(earlier)),)
    if case.temperature == 0:
        return (case,)
    if repeats is None:  # the file is read only where its number of runs counts
        record = store.record(case) if rewrites else None
        repeats = 1 if record is None else record.repeats
    return tuple(seeded(case, number) for number in range(repeats))


def accumulates(case: Case, accumulate: bool) -> bool:
    """Whether runs of a case are accumulated: greedy ones are all the same."""
    return accumulate and case.temperature > 0


def seeded(case: Case, number: int) -> Case:
    """The case with the seed of its run `number`, from 0."""
    return dataclasses.replace(
        case, texts=dataclasses.replace(case.texts, seed=case.texts.seed + number)
    )
