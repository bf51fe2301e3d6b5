"""The table of axes: what it says, in which order, and nothing where nothing is compared."""

from __future__ import annotations

from typing import Any

from helpers.records import row

from pytest_specdec.report import render
from pytest_specdec.report.axes import axis_rows, axis_tables, conclusion
from pytest_specdec.report.words import Phrases


def axis(name: str = "drafting", **changes: Any) -> dict[str, Any]:
    found = {
        "axis": name,
        "comparison": "text: target, draft, T 1",
        "k": 4,
        "start": "as-target",
        "end": "argmax",
        "before": 2.367,
        "now": 1.409,
        "change": -0.958,
        "interval": [-1.176, -0.740],
        "prompts": 16,
        "paired": True,
        "moves": True,
    }
    return found | changes


CATEGORY = axis(
    "category",
    start="json",
    end="<b>|chat",
    paired=False,
    moves=False,
    interval=[None, None],
)
ROWS = [row(axes=[axis(), CATEGORY]), row(k=2)]


def test_lines_say_from_where_to_where_and_whether_it_moves() -> None:
    lines = list(axis_tables(ROWS))
    assert lines[0] == "along which axes acceptance moves"
    (line,) = [line for line in lines if "argmax" in line]
    assert line.split() == (
        ["as-target", "argmax", "2.367", "→", "1.409", "-0.958", "±", "0.218", "16", "moves"]
    )
    (line,) = [line for line in lines if "json" in line]
    assert line.split()[-5:] == ["±", "?", "16*", "too", "few"]
    assert "  drafting of text: target, draft, T 1, k 4" in lines
    assert max(map(len, lines)) <= 80


def test_long_values_are_cut_to_the_width_of_a_terminal() -> None:
    long = axis(start=f"{'x' * 70}=true", end=f"{'x' * 70}=false")
    lines = list(axis_tables([row(axes=[long])]))
    assert max(map(len, lines)) <= 80
    assert any("…" in line and "=true" in line for line in lines)
    assert any("=false" in line for line in lines)


def test_the_conclusion_names_each_axis_once() -> None:
    rows = [row(axes=[axis(), axis(moves=False), CATEGORY])]
    assert conclusion(axis_rows(rows), Phrases("en")) == (
        "acceptance moves along drafting; no move was shown along category"
    )


def test_nothing_is_shown_where_nothing_is_compared() -> None:
    assert list(axis_tables([row()])) == []
    for suffix in (".md", ".html"):
        assert "along which axes" not in render(suffix, [row()]).lower()


def test_pages_have_the_table_and_escape_its_values() -> None:
    page = render(".md", ROWS)
    assert "| text: target, draft, T 1, k 4 | drafting | as-target | argmax |" in page
    assert "&lt;b&gt;\\|chat" in page
    assert "16\\*" in page
    html = render(".html", ROWS)
    assert "&lt;b&gt;|chat" in html
    assert "<b>|chat" not in html
