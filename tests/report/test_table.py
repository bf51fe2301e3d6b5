"""The terminal table: what each column prints, how rows are grouped and ordered."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.records import CONTEXTS, SMOOTHED, row

from pytest_specdec.report.row import ReportRow
from pytest_specdec.report.table import HEADERS, NOTE, tables


def cells(of: ReportRow) -> dict[str, str]:
    """The printed cells of one row by header; none of them holds two blanks in a row."""
    _, head, case, line, *_ = tables([of], wide=True)
    return {"case": case.strip(), **dict(zip(split(head), split(line), strict=True))}


def rows_of(lines: list[str]) -> list[list[str]]:
    """The words of each row that has any, and of the names over them."""
    return [line.split() for line in lines if line.startswith("  ") and "verdict" not in line]


def split(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def grid_row(suite: str, k: int, depth: int, **changes: Any) -> ReportRow:
    return row(id=f"{suite}/draft-k{k}-depth{depth}-t1", suite=suite, k=k, depth=depth, **changes)


def test_every_column_prints_its_value() -> None:
    assert cells(row()) == {
        "case": "draft-t1",
        "k": "8",
        "depth": "0",
        "rate": "50.00 %",
        "accepted": "4.000",
        "length": "5.000",
        "speed-up": "2.50x",
        "baseline": "5.100",
        "change": "-1.96 %",
        "verdict": "regressed",
    }


def test_a_gain_has_a_plus() -> None:
    assert cells(row(drop=-0.0123))["change"] == "+1.23 %"


@pytest.mark.parametrize("drop", [0.0, 1e-9, -1e-9])
def test_no_change_has_no_minus(drop: float) -> None:
    assert cells(row(drop=drop))["change"] == "+0.00 %"


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"acceptance_rate": None}, "rate"),
        ({"expected_accepted": None}, "accepted"),
        ({"acceptance_length": None}, "length"),
        ({"speedup": None}, "speed-up"),
        ({"baseline": {}}, "baseline"),
        ({"baseline": {"acceptance_length": None}}, "baseline"),
        ({"drop": None}, "change"),
    ],
)
def test_what_does_not_exist_is_a_dash(changes: dict[str, Any], column: str) -> None:
    assert cells(row(**changes))[column] == "-"


def test_each_suite_has_a_table_and_the_note_ends_all() -> None:
    lines = list(tables([grid_row("text", 8, 0), grid_row("audio", 8, 0), grid_row("text", 4, 0)]))
    assert [line for line in lines if line.startswith("suite ")] == ["suite audio", "suite text"]
    assert sum(line.strip().startswith("k") for line in lines) == 2
    start = next(number for number, line in enumerate(lines) if line.startswith("rate = "))
    assert " ".join(lines[start:]) == NOTE


def test_rows_are_ordered_by_number_and_not_by_text() -> None:
    shuffled = [
        grid_row("text", k, depth) for k, depth in ((16, 0), (4, 3), (8, 1), (4, 0), (8, 0))
    ]
    order = [
        tuple(map(int, words[:2])) for words in rows_of(list(tables(shuffled))) if len(words) > 1
    ]
    assert order == [(4, 0), (4, 3), (8, 0), (8, 1), (16, 0)]


def test_drafters_stay_together() -> None:
    rows = [row(id=f"text/{label}-k{k}-depth0-t1", k=k) for k in (4, 8) for label in ("b", "a")]
    order = [words[0] for words in rows_of(list(tables(rows)))]
    assert order == ["a-t1", "4", "8", "b-t1", "4", "8"]


def test_columns_are_aligned() -> None:
    rows = [
        grid_row("text", 4, 0, acceptance_rate=0.05, speedup=None),
        grid_row("text", 16, 3, acceptance_rate=1.0),
    ]
    _, head, _, *lines = tables(rows)
    lines = lines[: len(rows)]
    for name in ("k", "rate", "speed-up", "change"):
        end = head.index(f" {name} ") + 1 + len(name)
        assert all(line[end - 1] != " " and line[end] == " " for line in lines)
    start = head.index("verdict")
    assert all(line[start:] == "regressed" for line in lines)


def test_without_rows_nothing_is_printed() -> None:
    assert list(tables([])) == []


def test_headers_are_all_there() -> None:
    shown, hidden = HEADERS[1:], {"accepted"}
    assert tuple(split(list(tables([row()], wide=True))[1])) == shown
    assert tuple(split(list(tables([row()]))[1])) == tuple(
        name for name in shown if name not in hidden
    )


def test_the_widest_values_fit_80_columns() -> None:
    wide = {"acceptance_rate": 1.0, "acceptance_length": 17.0, "speedup": 12.34, "drop": -1.0769}
    rows = [
        grid_row(
            "text",
            16,
            depth,
            baseline={"acceptance_length": 12.345},
            verdict=verdict,
            reason="word " * 40,
            **wide,
        )
        for depth, verdict in enumerate(("inconclusive", "not judged", "regressed"))
    ]
    lines = list(tables(rows))
    assert (
        max(len(line) for line in lines if "is inconclusive" not in line) <= 80
    )  # a message is a line of its own
    assert any(line.startswith("text/draft-k16-depth0-t1 is inconclusive: word") for line in lines)


def test_counts_without_a_pair_have_no_depth_and_stand_among_the_others() -> None:
    given = row(id="text/eagle3", k=3, depth=None, temperature=None, speedup=None)
    assert cells(given)["case"] == "eagle3"
    assert (cells(given)["depth"], cells(given)["speed-up"]) == ("-", "-")
    names = [words[0] for words in rows_of(list(tables([given, row()]))) if len(words) == 1]
    assert names == ["draft-t1", "eagle3"]


def test_every_way_of_judging_has_a_mark_and_a_footnote_of_its_own() -> None:
    rows = [grid_row("text", 4, 0, **CONTEXTS), grid_row("text", 8, 0, **SMOOTHED)]
    lines = list(tables([*rows, grid_row("text", 12, 0)]))
    changes = [line.split("5.100  ")[1] for line in lines if "5.100" in line]
    assert changes == ["-1.00 %*  regressed", "-2.00 %†  regressed", "-1.96 %   regressed"]
    assert " ".join(lines).endswith(
        f"{NOTE} * change in the same contexts: rounds from all positions of the old target's "
        "texts; the lengths are of whole texts † change of the length smoothed at temperature "
        "0.1, which decides at temperature 0; the lengths are exact"
    )
