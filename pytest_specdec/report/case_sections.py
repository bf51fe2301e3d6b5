"""One case of the HTML page: the chart and the table of positions, categories, worst prompts."""

from __future__ import annotations

from typing import Any

from ..common.percent import signed_percent
from .charts import categories as categories_chart
from .charts import positions as positions_chart
from .drawing import Drawer
from .row import ReportRow
from .sides import Interval, Side, sides
from .text import details
from .words import Phrases


def case_section(row: ReportRow, say: Phrases, draw: Drawer) -> dict[str, Any]:
    """What the page shows of a case, for the template."""
    both = sides(row)
    samples = row["samples"]
    charts = []
    if row["survival"]:
        for name in ("survival", "conditional"):
            charts.append(
                draw(positions_chart(both, name, say), f"{say(f'chart_{name}')}: {row['id']}")
            )
    if len(row["categories"]) > 1:
        charts.append(draw(categories_chart(both, say), f"{say('chart_categories')}: {row['id']}"))
    return {
        "charts": [chart for chart in charts if chart],
        "positions": _positions(both) if row["survival"] else [],
        "categories": _categories(both) if row["categories"] else [],
        "worst": []
        if samples is None
        else [
            (worst["text"], worst["category"], say.number(worst["accepted"], 2))
            for worst in samples["worst"]
        ],
        "details": list(details(row, say)) if row["rounds"] is not None else [],
    }


def _positions(both: list[Side]) -> list[list[str]]:
    """Survival and conditional acceptance of each position: now, before, change."""
    now, before = both[0], both[1] if len(both) > 1 else None
    lines = []
    for place in range(len(now.survival)):
        line = [str(place + 1)]
        for name in ("survival", "conditional"):
            old = None if before is None else getattr(before, name)[place]
            line += _compared(getattr(now, name)[place], old)
        lines.append(line)
    return lines


def _categories(both: list[Side]) -> list[list[str]]:
    """The acceptance length of each category: now, before, change."""
    before = both[1].categories if len(both) > 1 else {}
    return [
        [name, *_compared(value, before.get(name))] for name, value in both[0].categories.items()
    ]


def _compared(now: Interval | None, before: Interval | None) -> list[str]:
    """A value with its interval, the one before, and the relative change."""
    change = "-"
    if now is not None and before is not None and before.value > 0:
        change = signed_percent(now.value / before.value - 1)
    return [_with_interval(now), _with_interval(before), change]


def _with_interval(found: Interval | None) -> str:
    if found is None:
        return "-"
    reach = (found.high - found.low) / 2
    return f"{found.value:.3f}" + (f" ± {reach:.3f}" if reach > 0 else "")
