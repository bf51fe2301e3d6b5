"""What the acceptance report says of one drafter: its combinations of k and depth, which is best by
what, and a word for it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable

from .curves import has_requests, stem
from .row import Number, ReportRow

EXCELLENT, WORTH = 2.0, 1.0
"""Speed-ups from which on, with 95 % confidence, drafting is called excellent, and worth it."""


@dataclasses.dataclass(frozen=True)
class Combinations:
    """All cells of a pair at one temperature, by depth and k."""

    name: str
    rows: tuple[ReportRow, ...]

    @property
    def depths(self) -> dict[int, tuple[ReportRow, ...]]:
        return {
            depth: tuple(rows)
            for depth, rows in itertools.groupby(self.rows, key=lambda row: row["depth"])
        }

    @property
    def ks(self) -> list[int]:
        return sorted({row["k"] for row in self.rows})

    @property
    def samples(self) -> int:
        return sum(row["samples"]["count"] for row in self.rows if row["samples"])

    @property
    def whole_requests(self) -> bool:
        """Whether speed-ups are those of whole texts, which compare over k."""
        return has_requests(self.rows)

    def speedup(self, row: ReportRow) -> Number:
        """What compares a combination with the others."""
        return row["request_speedup"] if self.whole_requests else row["speedup"]

    def interval(self, row: ReportRow) -> list[Number]:
        """95 % of that."""
        return row["request_speedup_interval"] if self.whole_requests else row["speedup_interval"]

    def tokens_per_second(self, row: ReportRow) -> Number:
        """Theoretical throughput, of whole texts where every combination knows it."""
        rate, length, whole = (
            row["tokens_per_second"],
            row["acceptance_length"],
            row["request_length"],
        )
        if not self.whole_requests or rate is None or length is None or whole is None:
            return rate
        return rate * whole / length

    @property
    def fastest(self) -> ReportRow | None:
        """The combination of the highest theoretical throughput; None without times."""
        return _best(self.rows, self.tokens_per_second)

    @property
    def drafting_pays(self) -> bool:
        """Whether any combination is faster than plain decoding."""
        return any(own is not None and own > 1 for own in map(self.speedup, self.rows))

    @property
    def best_rate(self) -> ReportRow | None:
        return _best(
            self.rows, lambda row: row["samples"]["rate"]["mean"] if row["samples"] else None
        )

    @property
    def best_accepted(self) -> ReportRow | None:
        return _best(
            self.rows, lambda row: row["samples"]["accepted"]["mean"] if row["samples"] else None
        )

    @property
    def assessment(self) -> str | None:
        """Of the fastest combination, a word that its interval carries; None without an
        interval.
        """
        bounds = (
            []
            if self.fastest is None
            else [bound for bound in self.interval(self.fastest) if bound is not None]
        )
        if len(bounds) < 2:
            return None
        low, high = bounds
        if low >= EXCELLENT:
            return "excellent"
        return "worth" if low > WORTH else "slower" if high < WORTH else "undecided"


def combinations(rows: Iterable[ReportRow]) -> list[Combinations]:
    """Measured cases by suite and drafter, as the report's chapters."""
    known = [row for row in rows if row["rounds"] is not None]
    ordered = sorted(known, key=lambda row: (row["suite"], stem(row), row["depth"], row["k"]))
    chapters = itertools.groupby(ordered, key=lambda row: (row["suite"], stem(row)))
    return [Combinations(f"{suite}/{name}", tuple(own)) for (suite, name), own in chapters]


def mean_rate(rows: Iterable[ReportRow]) -> Number:
    """The mean over all samples of acceptance rates; None without samples."""
    return _mean(
        [(samples["count"], samples["rate"]["mean"]) for row in rows if (samples := row["samples"])]
    )


def mean_accepted(rows: Iterable[ReportRow]) -> Number:
    """The mean over all samples of expected accepted tokens; None without samples."""
    return _mean(
        [
            (samples["count"], samples["accepted"]["mean"])
            for row in rows
            if (samples := row["samples"])
        ]
    )


def _mean(parts: Iterable[tuple[int, Number]]) -> Number:
    known = [(count, mean) for count, mean in parts if mean is not None]
    whole = sum(count for count, _ in known)
    return sum(count * mean for count, mean in known) / whole if whole else None


def _best(rows: Iterable[ReportRow], value: Callable[[ReportRow], Number]) -> ReportRow | None:
    known = [(found, row) for row in rows if (found := value(row)) is not None]
    return max(known, key=lambda item: item[0], default=(0.0, None))[1]
