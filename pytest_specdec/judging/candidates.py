"""The candidates of a session, compared once all are measured: on xdist's controller if there is
one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import TypedDict

import numpy as np

from ..acceptance.counts import Counts
from ..common.printable import printable
from ..config.candidates import natural_order
from ..gate.candidates import PairedDifference, Standing, compare_candidates
from ..report.row import CandidateDifference, CandidateRow, ReportRow, plain
from .comparison import Run


class MeasuredCandidate(TypedDict):
    """What a comparison needs of one candidate: plain data, so it crosses from xdist workers."""

    name: str
    comparison: str
    """Shared by the candidates that are compared with each other."""
    smoothed: bool
    """Whether the counts are smoothed, as they are at temperature 0."""
    prompts: list[str]
    rounds: list[float]
    accepted: list[float]
    """Accepted tokens of all positions."""


def measured_candidate(run: Run) -> MeasuredCandidate:
    """The candidate that a run measured, repeats added up.

    At temperature 0 one arg-max that flips moves the exact length, so the smoothed counts are
    compared where the engine has them.
    """
    smoothed = [fresh.smoothed for fresh in run.measured.runs if fresh.smoothed is not None]
    all_smoothed = len(smoothed) == len(run.measured.runs)
    counts = functools.reduce(Counts.merge, smoothed) if all_smoothed else run.measured.counts
    return MeasuredCandidate(
        name=printable(run.case.candidate),
        comparison=printable(run.case.comparison),
        smoothed=all_smoothed,
        prompts=list(counts.prompts),
        rounds=counts.rounds.tolist(),
        accepted=counts.accepted.sum(1).tolist(),
    )


def compare_rows(rows: Iterable[ReportRow], measured: Mapping[str, MeasuredCandidate]) -> None:
    """Put what each candidate is worth among the others into its row; `measured` goes by row id."""
    groups: dict[str, list[ReportRow]] = {}
    for row in rows:
        if row["id"] in measured:
            groups.setdefault(measured[row["id"]]["comparison"], []).append(row)
    for group in groups.values():
        group.sort(key=lambda row: natural_order(measured[row["id"]]["name"]))
        of_rows = [measured[row["id"]] for row in group]
        standings = compare_candidates([_counts(candidate) for candidate in of_rows])
        for place, (row, candidate, standing) in enumerate(
            zip(group, of_rows, standings, strict=True)
        ):
            row["candidate"] = _row(candidate, place, standing)


def _counts(candidate: MeasuredCandidate) -> Counts:
    """Counts with the positions added up: all that acceptance lengths are made of."""
    rounds = np.array(candidate["rounds"])
    return Counts(
        prompts=tuple(candidate["prompts"]),
        categories=("",) * len(rounds),
        rounds=rounds,
        drafted=rounds[:, None],
        accepted=np.array(candidate["accepted"])[:, None],
    )


def _row(candidate: MeasuredCandidate, place: int, standing: Standing) -> CandidateRow:
    return CandidateRow(
        name=candidate["name"],
        comparison=candidate["comparison"],
        place=place,
        smoothed=candidate["smoothed"],
        length=plain(standing.length),
        best=standing.is_best,
        below_best=standing.is_below_best,
        fell=standing.fell,
        from_best=_difference(standing.from_best),
        from_previous=_difference(standing.from_previous),
    )


def _difference(difference: PairedDifference | None) -> CandidateDifference | None:
    if difference is None:
        return None
    return CandidateDifference(
        drop=plain(difference.drop), interval=[plain(difference.low), plain(difference.high)]
    )
