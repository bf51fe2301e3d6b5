"""Which cases are measured for a case: one, its repeats, or the next of its nights, each with a
seed of its own.
"""

from __future__ import annotations

import dataclasses

from ..cases.case import Case
from .store import BaselineStore, current_evidence


@dataclasses.dataclass(frozen=True)
class Runs:
    """How often cases are measured."""

    repeats: int | None = None
    """As asked for; None for one run, and for as many as are stored where these are rewritten."""
    rewrites: bool = False
    accumulate: bool = False


def measured_cases(case: Case, store: BaselineStore, runs: Runs) -> tuple[Case, ...]:
    """The case with each seed to be measured now, in order.

    Repeats take the seeds after the asked one; nights those after the baseline's repeats, so that
    every run is fresh.
    """
    if accumulates(case, runs.accumulate):
        record = store.record(case)
        nights = () if record is None else current_evidence(store, case, record)
        return (seeded(case, (1 if record is None else record.repeats) + len(nights)),)
    if case.temperature == 0:
        return (case,)
    repeats = runs.repeats
    if repeats is None:  # the file is read only where its number of runs counts
        record = store.record(case) if runs.rewrites else None
        repeats = 1 if record is None else record.repeats
    return tuple(seeded(case, number) for number in range(repeats))


def accumulates(case: Case, accumulate: bool) -> bool:
    """Whether runs of a case add up: greedy ones are all the same."""
    return accumulate and case.temperature > 0


def seeded(case: Case, number: int) -> Case:
    """The case with the seed of its run `number`, from 0."""
    return dataclasses.replace(
        case, texts=dataclasses.replace(case.texts, seed=case.texts.seed + number)
    )
