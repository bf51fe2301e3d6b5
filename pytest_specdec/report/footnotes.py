"""Marks on changes that are not those of the lengths beside them, and footnotes for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .row import EstimateRow, ReportRow
from .words import Phrases

_MARKS = "*\u2020\u2021"
"""In the order of their footnotes; beyond these they are doubled, tripled and so on."""


def marks(rows: Iterable[ReportRow]) -> dict[str, str]:
    """The mark of each estimate that decided, by the estimate's name, in the order of the rows."""
    names = dict.fromkeys(row["estimate"]["name"] for row in rows if row["estimate"])
    return {
        name: _MARKS[place % len(_MARKS)] * (place // len(_MARKS) + 1)
        for place, name in enumerate(names)
    }


def mark_of(estimate: EstimateRow | None, marked: Mapping[str, str]) -> str:
    """The mark of a row's change; empty where the change is that of the lengths."""
    return "" if estimate is None else marked[estimate["name"]]


def footnotes(rows: Iterable[ReportRow], say: Phrases) -> list[str]:
    """What each mark means, a sentence for each."""
    listed = list(rows)
    regimes = {
        row["estimate"]["name"]: row["regime"] for row in reversed(listed) if row["estimate"]
    }
    return [
        say(
            "change_in_contexts" if regimes[name] == "target changed" else "change_smoothed",
            mark=mark,
            name=name,
        )
        for name, mark in marks(listed).items()
    ]
