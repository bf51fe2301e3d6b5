"""The Markdown report: one table, and a line for what did not simply pass."""

from __future__ import annotations

from helpers.records import CONTEXTS, row

from pytest_specdec.report import render
from pytest_specdec.report.table import HEADERS


def lines(*rows) -> list[str]:
    return render(".md", rows).splitlines()


def test_every_line_of_the_table_has_as_many_cells() -> None:
    table = [line for line in lines(row(), row(id="text/a|b-k8-depth0-t1")) if line.startswith("|")]
    assert len(table) == 4
    assert {line.replace("\\|", "").count("|") for line in table} == {len(HEADERS) + 2}


def test_what_failed_is_reported_with_what_changed() -> None:
    written = lines(
        row(verdict="regressed", reason="fell", changed=["drafter weights"]),
        row(verdict="pass", id="text/b"),
    )
    assert [line for line in written if line.startswith("- ")] == [
        "- **text/draft-k8-depth0-t1** regressed: fell (changed: drafter weights)"
    ]


def test_html_in_names_is_escaped_and_lines_stay_whole() -> None:
    text = render(".md", [row(suite="<b>\nx", verdict="error", reason="<img src=x>")])
    assert "<b>" not in text
    assert "<img" not in text
    assert "&lt;b&gt; x" in text


def test_a_change_with_a_mark_has_its_footnote() -> None:
    written = lines(row(**CONTEXTS))
    assert any("| -1.00 %* |" in line for line in written)
    assert any(line.startswith("\\* change in the same contexts: ") for line in written)
