"""A measured case as the gate judges it: counts of each run, and what they were measured under."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping

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
    smoothed: Counts | None = None
    """At temperature 0, of the same prompts: the renewal walk with the draft's distribution at a
    small temperature in the place of its arg-max. None at other temperatures and where it is not
    known.
    """
    contexts: Counts | None = None
    """Of the same prompts: one round from every start, see `acceptance.contexts`. None where it was
    not computed.
    """

    def rounded(self) -> MeasuredRun:
        """The run with the numbers that are stored, prompts sorted by key.

        A fresh run is judged by these, as its baseline was stored with them.
        """
        keys = self.counts.prompts
        return dataclasses.replace(
            self.replace_counts(_sorted_and_rounded),
            text_fingerprints={key: self.text_fingerprints[key] for key in sorted(keys)},
        )

    def replace_counts(self, change: Callable[[Counts], Counts]) -> MeasuredRun:
        """The run with all its counts changed in the same way."""
        return dataclasses.replace(
            self,
            counts=change(self.counts),
            smoothed=None if self.smoothed is None else change(self.smoothed),
            contexts=None if self.contexts is None else change(self.contexts),
        )

    def only(self, prompts: Collection[str]) -> MeasuredRun:
        """The run on those of its prompts that are among others."""
        rows = [row for row, key in enumerate(self.counts.prompts) if key in prompts]
        return self.replace_counts(lambda counts: counts.select(rows))

    def covers_texts_of(self, other: MeasuredRun) -> bool:
        """Whether it was counted on the very texts of all prompts of another run."""
        known, own = other.text_fingerprints, self.text_fingerprints
        prompts = set(self.counts.prompts)
        return all(
            key in prompts and known[key] and own[key] == known[key] for key in other.counts.prompts
        )


def _sorted_and_rounded(counts: Counts) -> Counts:
    """Counts with the numbers that are stored, prompts sorted by key."""
    rows = counts.select(sorted(range(len(counts.prompts)), key=counts.prompts.__getitem__))
    return dataclasses.replace(
        rows,
        rounds=np.round(rows.rounds, _DECIMALS),
        drafted=np.round(rows.drafted, _DECIMALS),
        accepted=np.round(rows.accepted, _DECIMALS),
        emitted=None if rows.emitted is None else np.trunc(rows.emitted),
        passes=None
        if rows.passes is None
        else np.array([round(passes, _DECIMALS) for passes in rows.passes.tolist()]),
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
    smoothing: float | None = None
    """Temperature of the runs' smoothed counts; None without any."""

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
