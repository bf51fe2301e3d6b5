"""Acceptance by draft position in the terminal."""

from __future__ import annotations

from helpers.records import row
from helpers.report_rows import session_rows

from pytest_specdec.report.layout import WIDTH
from pytest_specdec.report.position_table import position_tables


def test_positions_stand_above_those_of_the_baseline() -> None:
    before = {"conditional": [1.0, 0.5], "survival": [1.0, 0.5]}
    lines = list(
        position_tables([row(survival=[0.9, 0.45], conditional=[0.9, 0.5], baseline=before)])
    )
    assert lines[:7] == [
        "acceptance by draft position",
        "  text/draft-k8-depth0-t1",
        "    position            1        2",
        "    survival        0.900    0.450",
        "    conditional     0.900    0.500",
        "    baseline        1.000    0.500",
        "    change       -10.00 %  +0.00 %",
    ]


def test_every_line_fits_and_every_position_is_there() -> None:
    lines = list(position_tables(session_rows(8, ks=(40,))))
    assert max(map(len, lines)) <= WIDTH
    positions = [word for line in lines if "position  " in line for word in line.split()[1:]]
    assert positions == [str(place) for place in range(1, 41)] * 4


def test_without_a_baseline_or_a_measurement_less_is_shown() -> None:
    lines = list(position_tables([row(baseline={}), row(id="text/b", survival=[], conditional=[])]))
    assert not any(line.strip().startswith(("baseline", "change")) for line in lines)
    assert "  text/b" not in lines
    assert list(position_tables([row(survival=[], conditional=[])])) == []
