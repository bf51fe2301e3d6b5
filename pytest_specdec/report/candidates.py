"""Candidates compared with each other: the table, its conclusion in words, the training curve."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

from .layout import aligned, wrapped
from .row import CandidateDifference, CandidateRow, ReportRow
from .words import Phrases

HEADERS = ("candidate", "length", "exact", "below_best", "since_previous")
"""Phrases over the columns of the table."""
_NAMED = 3
"""Most candidates that a conclusion names of those not significantly below the best."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All candidates of one comparison, in their order."""

    name: str
    rows: tuple[ReportRow, ...]
    candidates: tuple[CandidateRow, ...]

    @property
    def smoothed(self) -> bool:
        """Whether they were compared by smoothed lengths, so that exact ones are another column."""
        return any(candidate["smoothed"] for candidate in self.candidates)

    @property
    def best(self) -> CandidateRow:
        return next(candidate for candidate in self.candidates if candidate["best"])

    @property
    def not_below_best(self) -> list[str]:
        """Names of the others that are not significantly below the best."""
        return [
            candidate["name"]
            for candidate in self.candidates
            if not (candidate["best"] or candidate["below_best"])
        ]

    @property
    def early_fall(self) -> str | None:
        """The last candidate before the first fall, where the best one came only after that."""
        return self._before_fall(0, self.best["place"])

    @property
    def turn_over(self) -> str | None:
        """The last candidate before the first one that fell below the best; None where none did."""
        return self._before_fall(self.best["place"] + 1, len(self.candidates))

    def _before_fall(self, begin: int, end: int) -> str | None:
        for candidate in self.candidates[begin:end]:
            if candidate["fell"]:
                return self.candidates[candidate["place"] - 1]["name"]
        return None


def comparisons(rows: Iterable[ReportRow]) -> list[Comparison]:
    """The comparisons of a session, by name."""
    listed = [(row["candidate"], row) for row in rows if row["candidate"] is not None]
    listed.sort(key=lambda pair: (pair[0]["comparison"], pair[0]["place"]))
    groups = itertools.groupby(listed, key=lambda pair: pair[0]["comparison"])
    return [
        Comparison(
            name=name,
            rows=tuple(row for _, row in pairs),
            candidates=tuple(candidate for candidate, _ in pairs),
        )
        for name, pairs in ((name, list(group)) for name, group in groups)
    ]


def candidate_tables(rows: Iterable[ReportRow], language: str = "en") -> Iterator[str]:
    """Lines of all comparisons for the terminal, without colour."""
    say = Phrases(language)
    shown = comparisons(rows)
    for comparison in shown:
        yield say("candidates_of", comparison=comparison.name)
        head = headers(comparison, say)
        for line in aligned([head, *table(comparison, say)], left=(0,)):
            yield f"    {line}"
        yield from wrapped(f"  {conclusion(comparison, say)}", indent="  ")
    if shown:
        yield from wrapped(say("candidates_note"))


def headers(comparison: Comparison, say: Phrases) -> list[str]:
    """The words over the columns."""
    names = [name for name in HEADERS if name != "exact" or comparison.smoothed]
    if comparison.smoothed:
        names[names.index("length")] = "smoothed"
    return [say(f"candidates_{name}") for name in names]


def table(comparison: Comparison, say: Phrases) -> list[list[str]]:
    """One line of words for each candidate."""
    lines = []
    for row, candidate in zip(comparison.rows, comparison.candidates, strict=True):
        exact = [say.number(row["acceptance_length"], 3)] * comparison.smoothed
        from_best = say("candidates_best") if candidate["best"] else _below(candidate["from_best"])
        lines.append(
            [
                candidate["name"],
                say.number(candidate["length"], 3),
                *exact,
                from_best,
                _change(candidate["from_previous"]),
            ]
        )
    return lines


def conclusion(comparison: Comparison, say: Phrases) -> str:
    """Which candidate is best, which are not significantly below it, and where the curve turned
    over.
    """
    best, others = comparison.best["name"], comparison.not_below_best
    parts = [say("candidates_best_is", best=best)]
    if len(comparison.candidates) == 1:
        return parts[0]
    if not others:
        parts.append(say("candidates_all_below"))
    elif len(others) <= _NAMED:
        parts.append(say("candidates_not_below", others=", ".join(others)))
    else:
        parts.append(say("candidates_many_not_below", number=len(others)))
    if comparison.early_fall is not None:
        parts.append(say("candidates_fell_and_rose", name=comparison.early_fall))
    if comparison.turn_over is not None:
        parts.append(say("candidates_fell", name=comparison.turn_over))
    elif comparison.early_fall is None:
        parts.append(say("candidates_did_not_fall"))
    return "; ".join(parts)


def _below(difference: CandidateDifference | None) -> str:
    if difference is None or difference["drop"] is None:
        return "-"
    return f"{difference['drop']:.3f} ± {_reach(difference)}"


def _change(difference: CandidateDifference | None) -> str:
    if difference is None or difference["drop"] is None:
        return "-"
    return f"{0.0 - difference['drop']:+.3f} ± {_reach(difference)}"


def _reach(difference: CandidateDifference) -> str:
    """Half the width of the interval, which is symmetric."""
    low, high = difference["interval"]
    return "?" if low is None or high is None else f"{(high - low) / 2:.3f}"


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """A candidate in the training curve."""

    name: str
    length: float
    low: float
    """The best candidate's length less the interval of the difference from it."""
    high: float
    best: bool
    fell: bool


def curve(comparison: Comparison) -> Sequence[CurvePoint]:
    """The candidates whose length is known, in their order; an unbounded interval has no length."""
    top = comparison.best["length"]
    points = []
    for candidate in comparison.candidates:
        length = candidate["length"]
        if length is None or top is None:
            continue
        bounds = [] if candidate["from_best"] is None else candidate["from_best"]["interval"]
        known = [top - bound for bound in bounds if bound is not None]
        low, high = (min(known), max(known)) if len(known) == 2 else (length, length)
        points.append(
            CurvePoint(
                name=candidate["name"],
                length=length,
                low=low,
                high=high,
                best=candidate["best"],
                fell=candidate["fell"],
            )
        )
    return points
