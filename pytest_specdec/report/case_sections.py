"""One case of the HTML page: the chart and the table of positions, categories, worst prompts."""

from __future__ import annotations

from typing import Any

from ..common.percent import signed_percent
from .charts import categories as categories_chart
from .charts import positions as positions_chart
from .drawing import Drawer
from .row import Number, ReportRow, ShownToken, TokenTextRow
from .sides import Interval, Side, sides
from .text import details
from .words import Phrases

_SHADES = 5
"""Of tokens, beside that of one always accepted."""
_COMMIT_DIGITS = 9


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
        "token_texts": [_token_text(text, say) for text in row["token_texts"]],
        **_histories(row, say),
        "details": list(details(row, say)) if row["rounds"] is not None else [],
    }


def _histories(row: ReportRow, say: Phrases) -> dict[str, Any]:
    """Acceptance by length of context, the baselines before, and the accumulated runs."""
    return {
        "contexts": [
            (
                f"{part['first']} - {part['last']}",
                str(part["drafts"]),
                say.number(part["now"], 3),
                say.number(part["before"], 3),
                _change(part["now"], part["before"]),
            )
            for part in row["contexts"]
        ],
        "chain": [
            (
                say.number(link["length"], 4),
                (link["commit"] or "-")[:_COMMIT_DIGITS],
                say("same_texts") if link["same_texts"] else say("other_texts"),
            )
            for link in row["chain"]
        ],
        "nights": [
            (
                str(number),
                say.number(night["length"], 4),
                say.number(night["p_value"], 4),
                say.number(night["evidence"], 3),
            )
            for number, night in enumerate(row["nights"], 1)
        ],
        "nights_note": say("nights_note", limit=say.number(row["evidence_limit"], 0))
        if row["nights"]
        else "",
    }


def _token_text(text: TokenTextRow, say: Phrases) -> dict[str, Any]:
    """A text for the template: its title, and each token's word, shade and what it says."""
    title = say(
        "token_text_title",
        category=text["category"],
        prompt=text["prompt"],
        length=say.number(text["length"], 3),
    )
    if text["before"] is not None:
        title += say("token_text_before", before=say.number(text["before"], 3))
    return {
        "title": title,
        "tokens": [(token["text"], _shade(token), _says(token, say)) for token in text["tokens"]],
        "more": say("token_more", more=text["more"]) if text["more"] else "",
    }


def _shade(token: ShownToken) -> int:
    """From 0, always accepted or not drafted, to the last shade, never accepted."""
    accept = token["accept"]
    return 0 if accept is None else round((1 - accept) * _SHADES)


def _says(token: ShownToken, say: Phrases) -> str:
    if token["accept"] is None:
        return ""
    values = {name: say.number(token[name], 3) for name in ("target", "draft", "accept")}
    said = say("token_says", **values)
    if token["before"] is not None:
        said += say("token_before", before=say.number(token["before"], 3))
    if token["instead"] is not None:
        chance = say.number(token["instead_draft"], 3)
        said += say("token_instead", word=token["instead"], draft=chance)
    return said


def _change(now: Number, before: Number) -> str:
    """The relative change of a value; a dash where it is not known."""
    return signed_percent(now / before - 1) if now is not None and before else "-"


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
