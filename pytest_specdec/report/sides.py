"""Now and the baseline side by side: survival, conditional acceptance and categories with their
intervals.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .row import Number, ReportRow

_NORMAL_95 = 1.959964


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval; the value alone where its error is not known."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: Number, error: Number, most: float | None = None) -> Interval | None:
        """Around a value with a standard error, cut off at 0 and at `most`; None without a
        value.
        """
        if value is None:
            return None
        reach = _NORMAL_95 * (error or 0.0)
        high = value + reach
        return cls(value, max(value - reach, 0.0), high if most is None else min(high, most))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """What was measured now, or stored in the baseline."""

    name: str
    """`now` or `before`, as the phrases call it."""
    survival: Sequence[Interval | None]
    conditional: Sequence[Interval | None]
    categories: Mapping[str, Interval | None]


def sides(row: ReportRow) -> list[Side]:
    """Now, and the baseline where there is one."""
    found = [_side("now", dict(row))]
    if row["baseline"].get("survival"):
        found.append(_side("before", row["baseline"]))
    return found


def _side(name: str, metrics: Mapping[str, Any]) -> Side:
    errors = metrics.get("category_errors", {})
    return Side(
        name=name,
        survival=_shares(metrics, "survival"),
        conditional=_shares(metrics, "conditional"),
        categories={
            category: Interval.of(value, errors.get(category))
            for category, value in metrics.get("categories", {}).items()
        },
    )


def _shares(metrics: Mapping[str, Any], name: str) -> list[Interval | None]:
    values = metrics.get(name, [])
    errors = metrics.get(f"{name}_error") or [None] * len(values)
    return [
        Interval.of(value, error, most=1.0) for value, error in zip(values, errors, strict=True)
    ]
