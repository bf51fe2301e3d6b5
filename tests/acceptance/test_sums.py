"""Sums by position: nothing is lost, and no position exceeds what rounds allow."""

from __future__ import annotations

import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.acceptance.sums import accepted_by_position, drafted_by_position


def test_known_positions_are_padded_and_unknown_ones_share_the_total() -> None:
    assert accepted_by_position(6, (3, 2, 1), 4) == [3, 2, 1, 0]
    assert accepted_by_position(6, None, 4) == [1.5] * 4


@PROPERTY
@given(st.data())
def test_drafts_by_position_add_up_between_accepted_and_rounds(data: st.DataObject) -> None:
    rounds = data.draw(st.integers(1, 30))
    accepted = sorted(
        data.draw(st.lists(st.integers(0, rounds), min_size=1, max_size=6)), reverse=True
    )
    total = data.draw(st.integers(sum(accepted), rounds * len(accepted)))
    drafted = drafted_by_position(total, rounds, accepted)
    assert sum(drafted) == pytest.approx(total)
    assert all(low <= here <= rounds for low, here in zip(accepted, drafted, strict=True))
    assert drafted == sorted(drafted, reverse=True)
