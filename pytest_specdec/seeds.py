"""Which cases are measured for a case: one, its repeats, or the next of its nights, each with a seed of its own."""

from __future__ import annotations

import dataclasses

from .acceptance.case import Case
from .baselines.store import BaselineStore, current_evidence


def measured_cases(case: Case, store: BaselineStore, *, repeats: int, accumulate: bool) -> tuple[Case, ...]:
    """The case with each seed to be measured now, in order.

    Repeats take the seeds after the asked one; nights those after the baseline's repeats, so that every run is fresh.
    """
    if accumulates(case, accumulate):
        record = store.record(case)
        nights = () if record is None else current_evidence(store, case, record)
        return (seeded(case, (1 if record is None else record.repeats) + len(nights)),)
    return tuple(seeded(case, number) for number in range(repeats if case.temperature > 0 else 1))


def accumulates(case: Case, accumulate: bool) -> bool:
    """Whether runs of a case add up: greedy ones are all the same."""
    return accumulate and case.temperature > 0


def seeded(case: Case, number: int) -> Case:
    """The case with the seed of its run `number`, from 0."""
    return dataclasses.replace(case, texts=dataclasses.replace(case.texts, seed=case.texts.seed + number))
