"""A measured case as the gate judges it: counts of each run, and what they were measured under."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping

import numpy as np

from ..acceptance.counts import Counts
from .conditions import Conditions, Environment, Fingerprints

_DECIMALS = 6
"""Counts are judged and stored to 1e-6 of a token: below any effect, above the last bits that
differ between machines.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """One run of a case: its counts, and the texts on which they were counted."""

    counts: Counts
    text_fingerprints: Mapping[str, str]
    """By prompt key; empty strings where the tokens of a text are not known."""

    def rounded(self) -> MeasuredRun:
        """The run with the numbers that are stored, prompts sorted by key.

        A fresh run is judged by these, as its baseline was stored with them.
        """
        keys = self.counts.prompts
        rows = self.counts.select(sorted(range(len(keys)), key=keys.__getitem__))
        counts = dataclasses.replace(
            rows,
            rounds=np.round(rows.rounds, _DECIMALS),
            drafted=np.round(rows.drafted, _DECIMALS),
            accepted=np.round(rows.accepted, _DECIMALS),
            emitted=None if rows.emitted is None else np.trunc(rows.emitted),
            passes=None
            if rows.passes is None
            else np.array([round(passes, _DECIMALS) for passes in rows.passes.tolist()]),
        )
        return MeasuredRun(
            counts=counts,
            text_fingerprints={key: self.text_fingerprints[key] for key in counts.prompts},
        )

    def only(self, prompts: Collection[str]) -> MeasuredRun:
        """The run on those of its prompts that are among others."""
        rows = [row for row, key in enumerate(self.counts.prompts) if key in prompts]
        return dataclasses.replace(self, counts=self.counts.select(rows))

    def covers_texts_of(self, other: MeasuredRun) -> bool:
        """Whether it was counted on the very texts of all prompts of another run."""
        known, own = other.text_fingerprints, self.text_fingerprints
        prompts = set(self.counts.prompts)
        return all(
            key in prompts and known[key] and own[key] == known[key] for key in other.counts.prompts
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredCase:
    """All runs of a case, measured in this session or read from a baseline."""

    definition: str
    conditions: Conditions
    fingerprints: Fingerprints
    environment: Environment
    runs: tuple[MeasuredRun, ...]
    """At least one, all on the same prompts, each with a seed of its own."""
    seed: int | None
    """Seed of the first run's texts; those of further runs follow it. None where a baseline of
    schema 1 does not hold it.
    """

    @functools.cached_property
    def counts(self) -> Counts:
        """All runs' counts added up."""
        return functools.reduce(Counts.merge, self.counts_of_runs)

    @property
    def counts_of_runs(self) -> tuple[Counts, ...]:
        return tuple(run.counts for run in self.runs)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Keys of its prompts."""
        return self.runs[0].counts.prompts

    def only(self, prompts: Collection[str]) -> MeasuredCase:
        """The case on those of its prompts that are among others."""
        return dataclasses.replace(self, runs=tuple(run.only(prompts) for run in self.runs))

    def runs_on_same_texts(self, now: MeasuredCase) -> tuple[MeasuredRun, ...] | None:
        """For each run of `now`, the run of this case on the very same texts; None unless each has
        one.
        """
        matches = [
            next((run for run in self.runs if run.covers_texts_of(fresh)), None)
            for fresh in now.runs
        ]
        known = tuple(run for run in matches if run is not None)
        return known if len(known) == len(matches) else None
