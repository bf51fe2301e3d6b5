"""Which cases label swaps judge, and what share of alpha other tests keep."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from helpers.records import record, scaled, steady_counts

from pytest_specdec.gate.session_cells import share_kept, swapped_pair
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.measured import MeasuredCase

BEFORE = record().as_measured()
NEW_TARGET: dict[str, Any] = {"text": "text-2", "target": "target-2"}


def with_contexts(case: MeasuredCase) -> MeasuredCase:
    runs = (dataclasses.replace(run, contexts=run.counts) for run in case.runs)
    return dataclasses.replace(case, runs=tuple(runs))


@pytest.mark.parametrize(
    ("changed", "swapped", "share"),
    [
        ({"text": "text-2"}, True, 0.0),
        (NEW_TARGET, True, 0.0),
        ({"text": "text-2", "engine": "decode"}, False, 0.0),
        ({}, False, 0.0),
        ({"fingerprints": Fingerprints(target="target-1", drafter="drafter-2")}, False, 1.0),
        ({"device": "cuda"}, False, 1.0),
        ({"depth": 1}, False, 0.0),
    ],
)
def test_what_changed_decides(changed: dict[str, Any], swapped: bool, share: float) -> None:
    now = record(scaled(steady_counts(), 0.9), **changed).as_measured()
    pair = swapped_pair(now, BEFORE)
    assert (pair is not None) == swapped
    assert share_kept(now, BEFORE) == share
    if pair is not None:
        assert pair.length_drop == pytest.approx(0.1 * steady_counts().expected_accepted)


def test_the_same_contexts_of_a_changed_target_keep_half() -> None:
    now = record(**NEW_TARGET).as_measured()
    assert share_kept(now, with_contexts(BEFORE)) == 0.5
    assert swapped_pair(now, with_contexts(BEFORE)) is not None
    assert share_kept(record(text="text-2").as_measured(), with_contexts(BEFORE)) == 0.0


@pytest.mark.parametrize("subset", [False, True])
def test_prompts_without_a_baseline_are_left_out_of_a_subset(subset: bool) -> None:
    now = record(steady_counts(20), text="text-2").as_measured()
    pair = swapped_pair(now, BEFORE, subset=subset)
    assert (None if pair is None else pair.prompts) == (12 if subset else None)


def test_a_baseline_that_is_none_has_no_pair() -> None:
    dead = record(scaled(steady_counts(), 0.0)).as_measured()
    assert swapped_pair(record(text="text-2").as_measured(), dead) is None
