"""Now and the baseline side by side, with intervals."""

from __future__ import annotations

import pytest
from helpers.records import row

from pytest_specdec.report.sides import Interval, sides


def test_an_interval_reaches_two_standard_errors_and_stays_a_share() -> None:
    assert Interval.of(0.5, 0.1) == Interval(
        0.5, pytest.approx(0.304, abs=1e-3), pytest.approx(0.696, abs=1e-3)
    )
    wide = Interval.of(0.95, 0.5, most=1.0)
    assert wide is not None
    assert (wide.low, wide.high) == (0.0, 1.0)
    assert Interval.of(2.0, None) == Interval(2.0, 2.0, 2.0)
    assert Interval.of(None, 0.1) is None


def test_a_row_without_a_baseline_has_one_side() -> None:
    (now,) = sides(row(baseline={}))
    assert [point is None for point in now.conditional] == [False, True]
    assert now.name == "now"


def test_a_baseline_without_errors_has_points_alone() -> None:
    baseline = {"survival": [0.9, 0.7], "conditional": [0.9, None]}
    _, before = sides(row(baseline=baseline))
    assert before.survival == [Interval(0.9, 0.9, 0.9), Interval(0.7, 0.7, 0.7)]
    assert before.categories == {}
