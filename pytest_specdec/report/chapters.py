"""Measured cases by drafter, as the chapters of the acceptance report."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence

from ..speedup.grid_summary import CellFigures, GridSummary, Interval
from .row import Number, ReportRow


@dataclasses.dataclass(frozen=True)
class Chapter:
    """All cells of a pair at one temperature, by depth and k."""

    name: str
    rows: tuple[ReportRow, ...]

    @functools.cached_property
    def summary(self) -> GridSummary:
        """Figures over all cells."""
        return GridSummary(tuple(map(figures, self.rows)))

    @property
    def depths(self) -> dict[int, tuple[ReportRow, ...]]:
        groups = itertools.groupby(self.rows, key=lambda row: row["depth"])
        return {depth: tuple(rows) for depth, rows in groups if depth is not None}

    @property
    def ks(self) -> list[int]:
        return sorted({row["k"] for row in self.rows})

    def row(self, cell: CellFigures) -> ReportRow:
        """The row of a cell of `summary`."""
        return next(row for row in self.rows if (row["k"], row["depth"]) == (cell.k, cell.depth))


def chapters(rows: Iterable[ReportRow]) -> list[Chapter]:
    """Measured cases of known pairs by suite and drafter."""
    known = [row for row in rows if row["rounds"] is not None and names_pair(row)]
    ordered = sorted(known, key=lambda row: (row["suite"], stem(row), row["depth"], row["k"]))
    groups = itertools.groupby(ordered, key=lambda row: (row["suite"], stem(row)))
    return [Chapter(f"{suite}/{name}", tuple(group)) for (suite, name), group in groups]


def names_pair(row: ReportRow) -> bool:
    """Whether the case of a row names its pair of models; not where a test hands over counts."""
    return row["depth"] is not None


def stem(row: ReportRow) -> str:
    """The case's name without k and depth: drafter, temperature, and rule, filters and engine where
    they are named.
    """
    name = row["id"].rsplit("/", 1)[1]
    return name.replace(f"-k{row['k']}-depth{row['depth']}", "")


def figures(row: ReportRow) -> CellFigures:
    """The figures of a row from which its pair's summary is computed."""
    samples, depth = row["samples"], row["depth"]
    assert depth is not None
    return CellFigures(
        k=row["k"],
        depth=depth,
        acceptance_length=row["acceptance_length"],
        tokens_per_second=row["tokens_per_second"],
        speedup=row["speedup"],
        speedup_interval=_interval(row["speedup_interval"]),
        request_length=row["request_length"],
        request_speedup=row["request_speedup"],
        request_interval=_interval(row["request_speedup_interval"]),
        samples=0 if samples is None else samples["count"],
        mean_rate=None if samples is None else samples["rate"]["mean"],
        mean_accepted=None if samples is None else samples["accepted"]["mean"],
    )


def _interval(bounds: Sequence[Number]) -> Interval | None:
    """Both bounds; None where either is unknown."""
    known = [bound for bound in bounds if bound is not None]
    return (known[0], known[1]) if len(known) == 2 else None
