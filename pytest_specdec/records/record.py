"""A record: one measured case as it is stored, and read again as a baseline."""

from __future__ import annotations

import functools
import operator
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
from .replaced import Erosion, ReplacedRecord, ReplacedRecords, digest, history_after

SCHEMA = 2
"""Of the files that are written."""
_LAST_DIGITS = 1e-3
"""By how much another machine or number of threads may move a prompt's counts; observed are 2e-5 of
30 rounds.
"""


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
    replaced: ReplacedRecords = ()
    """The baselines before this one, oldest first, as long as definition and conditions stayed the
    same.
    """

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

    def as_replaced(self, commit: str | None = None) -> ReplacedRecord:
        """What a record that replaces this one remembers of it; `commit` is the last one at which
        it was the baseline.
        """
        texts = [(prompt, row.text) for rows in self.runs for prompt, row in rows.items()]
        return ReplacedRecord(
            acceptance_length=round(self.acceptance_length, 6),
            prompts=digest((prompt,) for prompt in self.counts),
            texts=digest(texts) if all(text for _, text in texts) else None,
            smoothed_length=self._smoothed_length(),
            commit=commit,
        )

    def _smoothed_length(self) -> float | None:
        """Acceptance length of the smoothed counts of all runs; None where a run has none."""
        runs = [run.smoothed for run in self.as_measured().runs]
        known = [counts for counts in runs if counts is not None]
        if len(known) < len(runs):
            return None
        return round(functools.reduce(Counts.merge, known).acceptance_length, 6)

    def eroded_by(self, change: float) -> Erosion:
        """How far a run on this record's texts is below the best of this record and of those on the
        same prompts before it; `change` is the ratio of its acceptance length to this record's.

        Smoothed lengths are compared where this record holds them.
        """
        current = self.as_replaced()
        if current.smoothed_length is None:
            return self._erosion(current, current.acceptance_length * change, same_texts=True)
        length = current.smoothed_length * change
        return self._erosion(current, length, same_texts=True, smoothed=True)

    def eroded_to(self, length: float) -> Erosion:
        """How far an acceptance length on this record's prompts, but other texts, is below the best
        of this record and of those on the same prompts before it.
        """
        return self._erosion(self.as_replaced(), length, same_texts=False)

    def _erosion(
        self, current: ReplacedRecord, now: float, *, same_texts: bool, smoothed: bool = False
    ) -> Erosion:
        lengths = [
            (known.smoothed_length if smoothed else known.acceptance_length, known)
            for known in (current, *reversed(self.replaced))
            if known.prompts == current.prompts
        ]
        compared = [(length, known) for length, known in lengths if length is not None]
        length, best = max(compared, key=operator.itemgetter(0))
        return Erosion(
            drop=1 - now / length,
            best=length,
            commit=best.commit,
            current=best is current,
            baselines=len(compared),
            same_texts=same_texts and best.texts is not None and best.texts == current.texts,
            smoothed=smoothed,
        )

    def replacing(self, before: Record | None, commit: str | None = None) -> Record:
        """This record in the place of another, which was the baseline until `commit`: it remembers
        that one and, where it has no costs, takes over those of that one.
        """
        if before is None:
            return self
        costs = before.costs if self.costs is None else self.costs
        return msgspec.structs.replace(self, costs=costs, replaced=self._history(before, commit))

    def _history(self, before: Record, commit: str | None) -> tuple[ReplacedRecord, ...]:
        """The baselines before this one: none where the last one is not comparable, and that one
        itself only where its counts are others.
        """
        if (before.definition, before.conditions) != (self.definition, self.conditions):
            return ()
        if before.has_counts_of(self):
            return before.replaced
        return history_after(before.replaced, before.as_replaced(commit))

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
        return self.has_counts_of(now) and all(
            row.category == theirs[key].category
            for own, theirs in zip(self.runs, now.runs, strict=True)
            for key, row in own.items()
        )

    def has_counts_of(self, now: Record) -> bool:
        """Whether both hold the same runs on the same texts: their counts differ in the last
        digits at most.
        """
        return len(self.runs) == len(now.runs) and all(
            _same_counts(own, theirs, self.conditions.k)
            for own, theirs in zip(self.runs, now.runs, strict=True)
        )


def _same_counts(stored: PromptRows, now: PromptRows, k: int) -> bool:
    if {key: row.text for key, row in stored.items()} != {
        key: row.text for key, row in now.items()
    }:
        return False
    before, after = counts_of_rows(stored, k), counts_of_rows({key: now[key] for key in stored}, k)
    pairs = [
        (getattr(before, name), getattr(after, name)) for name in ("rounds", "drafted", "accepted")
    ]
    if before.passes is not None and after.passes is not None:  # files of before this field lack it
        pairs.append((before.passes, after.passes))
    return all(np.allclose(old, new, rtol=0, atol=_LAST_DIGITS) for old, new in pairs)
