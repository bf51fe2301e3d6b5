"""A record: one measured case as it is stored, and read again as a baseline."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from ..acceptance.counts import Counts
from .case_costs import CaseCosts
from .conditions import Conditions, Environment, Fingerprints
from .measured import MeasuredCase
from .prompt_counts import PromptRows, counts_of_rows, rows_of_run, run_of_rows
from .ranges import Positive, Seed

SCHEMA = 2
"""Of the files that are written."""
_LAST_DIGITS = 1e-3
"""By how much another machine or number of threads may move a prompt's counts; observed are 2e-5 of
30 rounds.
"""


class ReplacedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a record replaced: enough to see how far acceptance has eroded over several updates."""

    acceptance_length: Annotated[float, Meta(ge=1)]
    commit: str | None = None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A measured case, and at the same time a stored baseline.

    `acceptance_length`, `acceptance_rate`, `expected_accepted` and `speedup` are those of all its
    runs together; `as_counts()` gives every other metric and the counts of each prompt as arrays.
    `counts` is the stored form of the first run.
    """

    schema: int
    definition: str
    conditions: Conditions
    fingerprints: Fingerprints
    environment: Environment
    repeats: Positive
    counts: PromptRows
    """The first run's, by prompt key."""
    again: tuple[PromptRows, ...] = ()
    """Further runs of the same prompts, each with a seed of its own."""
    costs: CaseCosts | None = None
    """The costs that its speed-up was computed from."""
    case: str = ""
    """The case's name, which is the file's, too; empty in files of schema 1."""
    seed: Seed | None = None
    """Seed of the first run's texts; those of further runs follow it. None in files of schema 1."""
    smoothing: Annotated[float, Meta(gt=0)] | None = None
    """Temperature of the draft in the smoothed counts of a greedy case."""
    replaced: tuple[ReplacedRecord, ...] = ()
    """The records before this one, oldest first."""

    @property
    def runs(self) -> tuple[PromptRows, ...]:
        """All runs, by prompt key."""
        return (self.counts, *self.again)

    @property
    def acceptance_length(self) -> float:
        """Tokens per round, pooled over prompts."""
        return self.as_counts().acceptance_length

    @property
    def acceptance_rate(self) -> float:
        """Accepted over drafted tokens, pooled over prompts."""
        return self.as_counts().acceptance_rate

    @property
    def expected_accepted(self) -> float:
        """Drafts accepted per round, pooled over prompts."""
        return self.as_counts().expected_accepted

    @property
    def speedup(self) -> float:
        """Theoretical speed-up under its own costs; nan where it holds none."""
        return float("nan") if self.costs is None else self.costs.speedup(self.acceptance_length)

    def as_counts(self) -> Counts:
        """All runs' counts added up, prompts in stored order."""
        return self.as_measured().counts

    def as_measured(self) -> MeasuredCase:
        """The record as the gate judges it."""
        return MeasuredCase(
            definition=self.definition,
            conditions=self.conditions,
            fingerprints=self.fingerprints,
            environment=self.environment,
            runs=tuple(run_of_rows(rows, self.conditions.k) for rows in self.runs),
            seed=self.seed,
            smoothing=self.smoothing,
        )

    @classmethod
    def of(cls, measured: MeasuredCase, *, case: str, costs: CaseCosts | None) -> Record:
        """The stored form of a measured case, whose counts are rounded; `case` is its name."""
        first, *again = [rows_of_run(run) for run in measured.runs]
        return cls(
            schema=SCHEMA,
            definition=measured.definition,
            conditions=measured.conditions,
            fingerprints=measured.fingerprints,
            environment=measured.environment,
            repeats=len(measured.runs),
            counts=first,
            again=tuple(again),
            costs=costs,
            case=case,
            seed=measured.seed,
            smoothing=measured.smoothing,
        )

    def replacing(self, before: Record | None) -> Record:
        """This record in the place of another: it keeps what that one replaced and, where it has no
        costs, those of that one.
        """
        if before is None:
            return self
        costs = before.costs if self.costs is None else self.costs
        return msgspec.structs.replace(self, costs=costs, replaced=before.replaced)

    def repeated_by(self, now: Record) -> bool:
        """Whether `now` is the same measurement again: at most the environment and its last digits
        differ.
        """
        blank = {"environment": now.environment, "counts": {}, "again": (), "replaced": ()}
        if self.schema < now.schema:  # it is rewritten by `baseline migrate`, not by the way
            blank |= {"schema": now.schema, "case": now.case, "seed": now.seed}
        if self.smoothing is None:  # a record of before they were stored stays as it is
            blank |= {"smoothing": None}
        if msgspec.structs.replace(self, **blank) != msgspec.structs.replace(now, **blank):
            return False
        return len(self.runs) == len(now.runs) and all(
            _same_rows(own, theirs, self.conditions.k)
            for own, theirs in zip(self.runs, now.runs, strict=True)
        )


def _same_rows(stored: PromptRows, now: PromptRows, k: int) -> bool:
    if {key: (row.category, row.text) for key, row in stored.items()} != {
        key: (row.category, row.text) for key, row in now.items()
    }:
        return False
    before, after = counts_of_rows(stored, k), counts_of_rows({key: now[key] for key in stored}, k)
    pairs = [
        (getattr(before, name), getattr(after, name)) for name in ("rounds", "drafted", "accepted")
    ]
    if before.passes is not None and after.passes is not None:  # files of before this field lack it
        pairs.append((before.passes, after.passes))
    return all(np.allclose(old, new, rtol=0, atol=_LAST_DIGITS) for old, new in pairs)
