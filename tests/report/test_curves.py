"""The picture of speed-ups: which cases make one, and which point is best."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.records import row

from pytest_specdec.report.bars import bars
from pytest_specdec.report.chapters import stem
from pytest_specdec.report.curves import pictures
from pytest_specdec.report.row import ReportRow


def cell(k: int, depth: int, speedup: float | None, **more: Any) -> ReportRow:
    interval = [] if speedup is None else [speedup - 0.1, speedup + 0.1]
    more = {"id": f"text/draft-k{k}-depth{depth}-t1", **more}
    return row(k=k, depth=depth, speedup=speedup, speedup_interval=interval, **more)


GRID = [cell(4, 0, 1.2), cell(8, 0, 1.5), cell(4, 3, 1.8), cell(8, 3, 1.7)]


def test_a_pair_at_one_temperature_is_one_picture_with_a_curve_a_depth() -> None:
    (picture,) = pictures(reversed(GRID))
    assert picture.title == "text/draft-t1"
    assert picture.ks == [4, 8]
    assert {depth: [point.k for point in points] for depth, points in picture.curves.items()} == {
        0: [4, 8],
        3: [4, 8],
    }


def test_the_best_point_of_all_depths_is_marked() -> None:
    (picture,) = pictures(GRID)
    assert [(point.k, point.depth) for point in picture.points if point.best] == [(4, 3)]


def test_other_temperatures_and_suites_have_pictures_of_their_own() -> None:
    cold = [{**report_row, "id": report_row["id"].replace("-t1", "-t0")} for report_row in GRID]
    other = [
        {**report_row, "suite": "chat", "id": report_row["id"].replace("text/", "chat/")}
        for report_row in GRID
    ]
    assert [picture.title for picture in pictures([*GRID, *cold, *other])] == [
        "chat/draft-t1",
        "text/draft-t0",
        "text/draft-t1",
    ]


@pytest.mark.parametrize(
    "rows", [[], GRID[:1], [GRID[0], GRID[2]], [cell(4, 0, None), cell(8, 0, 1.5)]]
)
def test_a_single_k_is_no_curve(rows: list[ReportRow]) -> None:
    assert pictures(rows) == []
    assert list(bars(rows)) == []


def test_without_an_interval_a_point_stands_alone() -> None:
    (picture,) = pictures([{**report_row, "speedup_interval": []} for report_row in GRID])
    assert all(point.low == point.speedup == point.high for point in picture.points)


def test_the_terminal_draws_a_bar_a_case_and_stars_the_best() -> None:
    lines = list(bars(GRID))
    assert lines[0] == "speed-up over k, text/draft-t1 (* is the best; 95 % interval)"
    assert len(lines) == 6
    (best,) = [line for line in lines[1:] if line.endswith(" *")]
    assert best.startswith("  depth 3  k   4  1.80x  1.70 to 1.90  ")
    assert max(line.count("#") for line in lines) == best.count("#") == 32
    assert max(map(len, lines)) <= 80


def test_points_are_of_whole_requests_where_every_row_has_them() -> None:
    """By the rounds with room for k the larger k is best, by whole texts the smaller one."""
    whole = [
        cell(4, 0, 1.2, request_speedup=1.4, request_speedup_interval=[1.3, 1.5]),
        cell(8, 0, 1.5, request_speedup=1.1, request_speedup_interval=[1.0, 1.2]),
    ]
    (picture,) = pictures(whole)
    assert picture.whole_requests
    assert [(point.k, point.speedup, point.low, point.best) for point in picture.points] == [
        (4, 1.4, 1.3, True),
        (8, 1.1, 1.0, False),
    ]
    assert not any("room" in line for line in bars(whole))
    mixed = [whole[0], cell(8, 0, 1.5)]
    (picture,) = pictures(mixed)
    assert not picture.whole_requests
    assert [point.speedup for point in picture.points] == [1.2, 1.5]
    assert "  each k counts only rounds with room for k drafts, which favours a larger k" in list(
        bars(mixed)
    )


def test_where_no_k_beats_plain_decoding_none_is_best() -> None:
    slow = [cell(4, 0, 0.9), cell(8, 0, 0.7)]
    (picture,) = pictures(slow)
    assert not picture.drafting_pays
    assert not any(point.best for point in picture.points)
    lines = list(bars(slow))
    assert lines[0] == "speed-up over k, text/draft-t1 (95 % interval)"
    assert "  do not draft: no k beats plain decoding" in lines
    assert not any(line.endswith("*") for line in lines)


def test_rule_and_engine_stay_in_the_title() -> None:
    assert (
        stem(cell(4, 0, 1.0, id="text/draft-k4-depth0-t1-block-decode")) == "draft-t1-block-decode"
    )
