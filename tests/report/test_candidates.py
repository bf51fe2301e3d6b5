"""Candidates in the terminal and in every report."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from helpers import records
from helpers.report_rows import needs_plots

from pytest_specdec.report import render
from pytest_specdec.report.candidates import candidate_tables, comparisons
from pytest_specdec.report.layout import WIDTH
from pytest_specdec.report.row import CandidateDifference, ReportRow

COMPARISON = "text/draft-k8-depth0-t1"


def difference(drop: float, reach: float | None = 0.1) -> CandidateDifference:
    bounds = [None, None] if reach is None else [drop - reach, drop + reach]
    return CandidateDifference(drop=drop, interval=bounds)


def row(place: int, length: float, **changes: Any) -> ReportRow:
    name = changes.pop("name", f"ckpt-{place + 1}000")
    candidate = {
        "name": name,
        "comparison": COMPARISON,
        "place": place,
        "smoothed": False,
        "length": length,
        "best": False,
        "below_best": True,
        "fell": False,
        "from_best": difference(3.0 - length),
        "from_previous": difference(-0.5) if place else None,
    }
    return records.row(
        id=f"text/draft@{name}-k8-depth0-t1",
        acceptance_length=length,
        verdict="not judged",
        candidate={**candidate, **changes},
    )


BEST = {"best": True, "below_best": False, "from_best": None}
CURVE = [
    row(0, 2.0),
    row(1, 2.9, below_best=False),
    row(2, 3.0, **BEST),
    row(3, 2.95, below_best=False, from_previous=difference(0.05)),
    row(4, 2.5, fell=True),
]

CONCLUSIONS = [
    ([row(0, 3.0, **BEST)], "best: ckpt-1000"),
    (
        [row(0, 2.0), row(1, 3.0, **BEST)],
        "best: ckpt-2000; all others are significantly below it; no significant fall",
    ),
    (
        [row(0, 2.0), row(1, 1.5, fell=True), row(2, 3.0, **BEST)],
        "best: ckpt-3000; all others are significantly below it; fell after ckpt-1000 and rose again",
    ),
    (
        [*(row(place, 2.9, below_best=False) for place in range(4)), row(4, 3.0, **BEST)],
        "best: ckpt-5000; 4 others not significantly below it; no significant fall",
    ),
]
"""Rows, and what is said of them."""


def text(rows: list[ReportRow]) -> str:
    return "\n".join(candidate_tables(rows))


def test_the_terminal_has_a_table_and_its_conclusion_in_80_columns() -> None:
    lines = list(candidate_tables(reversed(CURVE)))
    assert lines[:7] == [
        f"candidates of {COMPARISON}",
        "    candidate  length  below the best  since the one before",
        "    ckpt-1000   2.000   1.000 ± 0.100                     -",
        "    ckpt-2000   2.900   0.100 ± 0.100        +0.500 ± 0.100",
        "    ckpt-3000   3.000            best        +0.500 ± 0.100",
        "    ckpt-4000   2.950   0.050 ± 0.100        -0.050 ± 0.100",
        "    ckpt-5000   2.500   0.500 ± 0.100        +0.500 ± 0.100",
    ]
    assert lines[7] == (
        "  best: ckpt-3000; ckpt-2000, ckpt-4000 not significantly below it; fell after"
    )
    assert lines[8] == "  ckpt-4000"
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize(("rows", "words"), CONCLUSIONS)
def test_conclusions(rows: list[ReportRow], words: str) -> None:
    assert words in " ".join(text(rows).replace("\n", " ").split())


def test_smoothed_lengths_stand_beside_the_exact_ones() -> None:
    rows = [row(0, 2.9, smoothed=True), row(1, 3.0, smoothed=True, **BEST)]
    rows[0]["acceptance_length"] = 2.123
    assert "candidate  smoothed  exact" in text(rows)
    assert re.search(r"ckpt-1000 +2\.900  2\.123", text(rows))


def test_an_interval_of_one_prompt_has_no_end() -> None:
    assert "1.000 ± ?" in text([row(0, 2.0, from_best=difference(1.0, None)), row(1, 3.0, **BEST)])


def test_no_candidates_no_lines() -> None:
    assert text([records.row()]) == ""
    assert "andidates" not in render(".md", [records.row()])
    assert "candidates" not in json.loads(render(".json", [records.row()]))


def test_several_comparisons_are_apart() -> None:
    other = [row(0, 1.0, comparison="text/other", **BEST)]
    assert [shown.name for shown in comparisons([*CURVE, *other])] == [COMPARISON, "text/other"]


def test_json_has_the_conclusion_beside_the_rows() -> None:
    document = json.loads(render(".json", CURVE))
    assert document["candidates"] == [
        {
            "comparison": COMPARISON,
            "best": "ckpt-3000",
            "not_below_best": ["ckpt-2000", "ckpt-4000"],
            "fell_after": "ckpt-4000",
            "conclusion": "best: ckpt-3000; ckpt-2000, ckpt-4000 not significantly below it; fell "
            "after ckpt-4000",
        }
    ]
    assert document["cases"][0]["candidate"]["from_best"]["drop"] == pytest.approx(1.0)


def test_markdown_has_the_table() -> None:
    page = render(".md", CURVE)
    assert f"## Candidates of {COMPARISON}" in page
    assert "| ckpt-3000 | 3.000 | best | +0.500 ± 0.100 |" in page


@needs_plots
@pytest.mark.parametrize("language", ["en", "zh"])
def test_html_draws_the_training_curve(language: str) -> None:
    page = render(".html", CURVE, language)
    figures = re.findall(r"<svg.*?</svg>", page, re.S)
    (drawing,) = [ElementTree.fromstring(svg) for svg in figures if COMPARISON in svg]
    heights = {}
    for path in drawing.iter("path"):
        title = path.find("title")
        if title is not None:
            place = re.fullmatch(r"translate\(([\d.]+),([\d.]+)\)", path.attrib["transform"])
            assert place is not None
            heights[title.text] = float(place[2])
    lengths = {
        f"ckpt-{place}000: {length:.3f}": length
        for place, length in enumerate([2.0, 2.9, 3.0, 2.95, 2.5], 1)
    }
    assert sorted(heights, key=heights.__getitem__) == sorted(
        lengths, key=lengths.__getitem__, reverse=True
    )
    texts = [element.text for element in drawing.iter("text")]
    assert [text for text in texts if text in {f"ckpt-{number}000" for number in range(1, 6)}] == [
        f"ckpt-{number}000" for number in range(1, 6)
    ]


def test_main_tables_list_candidates_in_their_order() -> None:
    rows = [row(1, 2.0, name="ckpt-10"), row(0, 3.0, name="ckpt-9", **BEST)]
    page = render(".md", rows)
    assert page.index("draft@ckpt-9-t1") < page.index("draft@ckpt-10-t1")
