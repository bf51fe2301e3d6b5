"""The Markdown report: one table, and a line for what did not simply pass."""

from __future__ import annotations

import html
import re

import pytest
from helpers.records import CONTEXTS, row
from helpers.report_rows import DIAGNOSIS, FACTS, session_rows
from report.test_candidates import CURVE

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


def test_verdicts_are_counted_first_gravest_in_front() -> None:
    written = lines(row(verdict="pass", id="text/a"), row(verdict="error", id="text/b"))
    assert written[:3] == ["# Speculative decoding", "", "**1 error, 1 pass**"]


def test_the_diagnosis_is_folded_and_as_the_terminal_has_it() -> None:
    text = render(".md", [row(diagnosis=[*DIAGNOSIS, "  lost most  '<b>```@user' (code)"])])
    (folded,) = re.findall(
        r"<details><summary>(.*?)</summary>\n<pre>\n(.*?)\n</pre>\n</details>", text, re.S
    )
    assert folded[0] == "regressed: text/draft-k8-depth0-t1"
    assert html.unescape(folded[1]).split("\n")[:-1] == DIAGNOSIS
    assert "<b>" not in text


def test_the_session_is_folded() -> None:
    text = render(".md", [row()], facts=FACTS)
    assert f"{FACTS['command']}\n{FACTS['date']}, commit {'4' * 40}\n" in text
    assert "torch 2.13.0, device cpu, threads 1" in text


@pytest.mark.parametrize("letter", ["x", "é", "<", "\N{GRINNING FACE}"])
def test_it_is_never_longer_than_a_comment_and_says_what_is_left_out(letter: str) -> None:
    many = [
        row(
            id=f"text/{letter * 40}{number}-k8-depth0-t1",
            suite=letter * 30,
            reason=letter * 5000,
            notes=[letter * 4000 + str(number)],
            diagnosis=[letter * 75] * 30,
            verdict=("pass", "regressed")[number % 2],
        )
        for number in range(600)
    ]
    text = render(".md", [*many, *CURVE], facts={**FACTS, "command": letter * 90000})
    assert len(text.encode()) < 60_000
    note = text.rstrip().splitlines()[-1]
    assert note.startswith("Left out to stay short: ")
    assert "lines of the table" in note
    assert "diagnoses" in note
    assert text.count("<details>") == text.count("</details>") == text.count("<pre>")
    table = [line for line in text.splitlines() if line.startswith("| " + html.escape(letter))]
    assert table
    assert all(line.endswith("| regressed |") for line in table)


def test_an_ordinary_session_is_whole() -> None:
    text = render(".md", session_rows(16), facts=FACTS)
    assert text.count("<details>") == 4 + 1
    assert "Left out" not in text
    assert len(text.encode()) < 12_000
