"""A card as a section of a model card, in Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

from .card import CardBest, CardDocument, CardFigure
from .markdown import escaped_cell
from .row import Number, printable_values

BEGIN, END = "<!-- specdec card -->", "<!-- specdec card ends -->"


def render_card(card: CardDocument) -> str:
    """The section between its marks. Names and prompts of others are escaped, secrets hidden."""
    return "\n".join([BEGIN, *_lines(printable_values(card)), END]) + "\n"


def _lines(card: CardDocument) -> Iterator[str]:
    of = card["card"]
    yield f"## Speculative decoding: {_name(of['drafter'])} for {_name(of['target'])}"
    yield ""
    yield (
        f"Measured by replay on {of['texts']} text{'s' * (of['texts'] != 1)} of the target, at "
        f"most {of['new_tokens']} new tokens each, temperature {of['temperature']:g}, rule "
        f"{escaped_cell(of['rule'])}, kind {escaped_cell(of['kind'])}, depth {of['depth']}. "
        f"Prompts: {escaped_cell(of['prompts'])}. Intervals are 95 %, over prompts like these."
    )
    for warning in card["warnings"]:
        yield ""
        yield f"**Warning:** {escaped_cell(warning)}."
    yield from _categories(card)
    yield from _positions(card)
    yield from _steps(card)
    yield from _doctor(card)
    yield from _folded("Environment and command", _circumstances(card))


def _name(path: str) -> str:
    """The last part of a path or hub id."""
    return escaped_cell(path.rstrip("/").rsplit("/", 1)[-1] or path)


def _categories(card: CardDocument) -> Iterator[str]:
    yield from ("", f"### Acceptance by category, k = {card['k']}", "")
    overall = card["steps"][-1]
    rows = [
        (
            part["name"],
            str(part["prompts"]),
            _figure(part["acceptance_length"]),
            _number(part["acceptance_rate"]),
        )
        for part in card["categories"]
    ]
    texts, length = card["card"]["texts"], overall["acceptance_length"]
    rows.append(("all", str(texts), _figure(length), _number(overall["acceptance_rate"])))
    yield from _table(("category", "prompts", "acceptance length", "acceptance rate"), rows)


def _positions(card: CardDocument) -> Iterator[str]:
    yield from ("", f"### Acceptance by position, k = {card['k']}", "")
    rows = [
        (str(row["position"]), _figure(row["survival"]), _figure(row["conditional"]))
        for row in card["positions"]
    ]
    yield from _table(("position", "survival", "conditional acceptance"), rows)


def _steps(card: CardDocument) -> Iterator[str]:
    yield from ("", "### Drafts a round, and what they may cost", "")
    timed = card["best_measured"] is not None
    heads = ["k", "tokens per pass of the target", "passes of the drafter", "break-even cost"]
    rows = [
        [
            str(step["k"]),
            _figure(step["request_length"]),
            str(step["passes"]),
            _figure(step["break_even"]),
            *([_figure(step["speedup"])] if timed else []),
        ]
        for step in card["steps"]
    ]
    yield from _table([*heads, *(["speed-up"] if timed else [])], rows)
    yield ""
    yield (
        "Tokens per pass are of whole texts. A round pays while it takes less than this number of "
        "plain steps of the target. Break-even cost: the largest cost of a pass of the drafter, in "
        "steps of the target, where a verification costs as much as a step."
    )
    yield ""
    best = card["best"]
    named = "; ".join(f"{row['cost']:g}: {_best(row)}" for row in best)
    yield f"Best k by the cost of a pass, in steps of the target: {named}."
    measured = card["best_measured"]
    if measured is not None:
        yield ""
        yield (
            f"Best k with the costs of {escaped_cell(card['card']['costs'])}: {_best(measured)}; "
            f"drafting then costs {measured['cost']:.3f} steps of the target a round."
        )


def _best(row: CardBest) -> str:
    return f"k = {row['k']} ({row['speedup']:.2f}x)" if row["k"] else "do not draft"


def _doctor(card: CardDocument) -> Iterator[str]:
    found = card["doctor"]
    yield from ("", "### Reading of the folder", "")
    if not found["verdict"]:
        yield from (f"{escaped_cell(line)}." for line in found["lines"])
        return
    yield f"`doctor` says: **{escaped_cell(found['verdict'])}**."
    yield from _folded("What the doctor found", found["lines"])


def _folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    """Lines that can be unfolded; in `pre` no Markdown, mention or link is read."""
    # A blank line, one of spaces also, would end the block of HTML in Markdown.
    text = "\n".join(html.escape(line, quote=False) if line.strip() else "&nbsp;" for line in lines)
    yield from ("", f"<details><summary>{title}</summary>", f"<pre>{text}</pre>", "</details>")


def _circumstances(card: CardDocument) -> list[str]:
    of = card["card"]
    named: dict[str, Any] = {
        "target": f"{of['target']} ({of['target_fingerprint']})",
        "drafter": f"{of['drafter']} ({of['drafter_fingerprint']})",
        **of["environment"],
        "pytest-specdec": of["version"],
    }
    lines = [f"{name}: {value}" for name, value in named.items() if value != ""]
    return [*lines, of["command"]]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for line in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(escaped_cell(word) for word in line)} |"


def _figure(figure: CardFigure) -> str:
    value = _number(figure["value"])
    if len(figure["interval"]) != 2:
        return value
    low, high = map(_number, figure["interval"])
    return f"{value} ({low} to {high})"


def _number(value: Number) -> str:
    return "-" if value is None else f"{value:.3f}"
