"""What the cells of a pair come to: means, best cells and the assessment."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_specdec.speedup.grid_summary import CellFigures, GridSummary


def cell(k: int, depth: int = 0, speedup: float | None = 1.5, **more: Any) -> CellFigures:
    figures: dict[str, Any] = {
        "acceptance_length": 4.0,
        "tokens_per_second": None if speedup is None else 100 * speedup,
        "speedup": speedup,
        "speedup_interval": None if speedup is None else (speedup - 0.1, speedup + 0.1),
        "samples": 10,
        "mean_rate": 0.8 / k,
        "mean_accepted": float(k),
    }
    return CellFigures(k=k, depth=depth, **(figures | more))


def whole(k: int, speedup: float, length: float) -> CellFigures:
    interval = (speedup - 0.1, speedup + 0.1)
    return cell(k, request_speedup=speedup, request_length=length, request_interval=interval)


def test_means_weigh_cells_by_their_samples() -> None:
    summary = GridSummary((cell(1, samples=30), cell(2, samples=10), cell(4, samples=0)))
    assert summary.samples == 40
    assert summary.mean_rate == pytest.approx((30 * 0.8 + 10 * 0.4) / 40)
    assert summary.mean_accepted == pytest.approx((30 * 1 + 10 * 2) / 40)


def test_without_samples_there_are_no_means_and_no_best_by_them() -> None:
    summary = GridSummary((cell(4, samples=0, mean_rate=None, mean_accepted=None),))
    assert summary.mean_rate is summary.mean_accepted is None
    assert summary.highest_rate is summary.highest_accepted is None


def test_cells_are_compared_by_whole_texts_only_where_all_have_them() -> None:
    both = (whole(4, 2.2, 3.0), whole(8, 1.1, 2.0))
    summary = GridSummary(both)
    assert summary.whole_requests
    assert [summary.speedup(each) for each in both] == [2.2, 1.1]
    assert summary.tokens_per_second(both[0]) == pytest.approx(150 * 3.0 / 4.0)
    assert summary.interval(both[0]) == pytest.approx((2.1, 2.3))
    mixed = GridSummary((both[0], cell(8)))
    assert not mixed.whole_requests
    assert mixed.speedup(both[0]) == 1.5
    assert mixed.tokens_per_second(both[0]) == 150
    assert mixed.interval(both[0]) == pytest.approx((1.4, 1.6))


def test_the_best_of_each_kind_may_be_another_cell() -> None:
    summary = GridSummary((cell(1), cell(2, speedup=1.9), cell(4)))
    assert summary.highest_rate is summary.cells[0]
    assert summary.fastest is summary.cells[1]
    assert summary.highest_accepted is summary.cells[2]
    assert [summary.is_best(each) for each in summary.cells] == [False, True, False]


@pytest.mark.parametrize(("speedup", "pays"), [(1.01, True), (1.0, False), (0.5, False)])
def test_no_cell_is_best_where_plain_decoding_is_faster(speedup: float, pays: bool) -> None:
    summary = GridSummary((cell(4, speedup=speedup), cell(8, speedup=0.4)))
    assert summary.drafting_pays == summary.is_best(summary.cells[0]) == pays
    assert not summary.is_best(summary.cells[1])


def test_cells_without_a_speedup_are_never_best() -> None:
    summary = GridSummary((cell(4, speedup=None), cell(8, speedup=None)))
    assert not summary.drafting_pays
    assert not any(map(summary.is_best, summary.cells))
    assert summary.fastest is summary.assessment is None


def test_each_depth_has_its_own_figures() -> None:
    summary = GridSummary((cell(4), cell(8, speedup=1.7), cell(4, 3, samples=0)))
    assert summary.highest_throughput_at(0) == pytest.approx(170)
    assert summary.mean_accepted_at(0) == pytest.approx(6)
    assert summary.mean_rate_at(3) is None
    assert summary.highest_throughput_at(7) is None


@pytest.mark.parametrize(
    ("interval", "word"),
    [
        ((2.0, 2.6), "excellent"),
        ((1.99, 2.6), "worth"),
        ((1.0, 2.6), "undecided"),
        ((0.5, 1.0), "undecided"),
        ((0.5, 0.99), "slower"),
        (None, None),
    ],
)
def test_the_assessment_is_what_the_interval_supports(
    interval: tuple[float, float] | None, word: str | None
) -> None:
    assert GridSummary((cell(4, speedup_interval=interval),)).assessment == word
