"""Measured cases: rounding, some of the prompts, and runs on the same texts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.records import counts, record, steady_counts

from pytest_specdec.records.measured import MeasuredCase, MeasuredRun
from pytest_specdec.records.record import Record


def repeated(*texts: str, prompts: int = 12) -> MeasuredCase:
    """A case with a run for each text."""
    first, *again = [record(steady_counts(prompts), text=text).as_measured() for text in texts]
    return dataclasses.replace(first, runs=(*first.runs, *(other.runs[0] for other in again)))


def test_runs_add_up() -> None:
    whole = repeated("a", "b", "c")
    assert len(whole.counts_of_runs) == 3
    assert whole.counts.total_rounds == 3 * repeated("a").counts.total_rounds
    assert whole.counts.acceptance_length == repeated("a").counts.acceptance_length


@pytest.mark.parametrize(
    ("now", "matches"),
    [
        (("a",), True),
        (("b",), True),
        (("a", "b"), True),
        (("b", "a"), True),
        (("c",), False),
        (("a", "c"), False),
    ],
)
def test_each_run_is_compared_with_the_one_on_its_own_texts(
    now: tuple[str, ...], matches: bool
) -> None:
    runs = repeated("a", "b").runs_on_same_texts(repeated(*now))
    assert (runs is not None) == matches
    if runs is not None:
        assert [run.text_fingerprints["p0"] for run in runs] == [f"{text}-p0" for text in now]


def test_prompts_of_different_runs_are_no_run_on_the_same_texts() -> None:
    whole = repeated("a", "b")
    first, second = (run.text_fingerprints for run in whole.runs)
    mixed = {key: (second if row % 2 else first)[key] for row, key in enumerate(first)}
    run = dataclasses.replace(whole.runs[0], text_fingerprints=mixed)
    assert whole.runs_on_same_texts(dataclasses.replace(whole, runs=(run,))) is None


def test_fewer_prompts_can_be_on_the_same_texts_and_more_cannot() -> None:
    assert repeated("a").runs_on_same_texts(repeated("a", prompts=3)) is not None
    assert repeated("a", prompts=3).runs_on_same_texts(repeated("a")) is None


def test_some_of_the_prompts_are_taken_from_every_run() -> None:
    whole = repeated("a", "b")
    part = whole.only({"p2", "p0", "unknown"})
    assert [run.counts.prompts for run in part.runs] == [("p0", "p2")] * 2
    assert part.runs[0].counts.accepted.tolist() == whole.runs[0].counts.accepted[[0, 2]].tolist()
    assert part.conditions == whole.conditions
    assert whole.only(whole.prompts).prompts == whole.prompts


def test_a_run_on_fewer_prompts_does_not_cover_those_that_it_left_out() -> None:
    whole = repeated("a")
    assert whole.only({"p0"}).runs_on_same_texts(whole) is None


def test_rounding_sorts_prompts_and_keeps_each_ones_numbers() -> None:
    of = counts([1 + 1e-8, 2], [[1 / 3], [2]], prompts=["z", "a"], categories=["prose", "code"])
    of = dataclasses.replace(of, emitted=np.array([5.0, 6.0]), passes=np.array([3 + 1e-9, 2.25]))
    run = MeasuredRun(counts=of, text_fingerprints={"a": "ta", "z": "tz"}).rounded()
    assert run.counts.prompts == ("a", "z")
    assert run.counts.categories == ("code", "prose")
    assert run.counts.rounds.tolist() == [2, 1]
    assert run.counts.accepted.tolist() == [[2], [0.333333]]
    assert run.counts.emitted is not None
    assert run.counts.passes is not None
    assert (run.counts.emitted.tolist(), run.counts.passes.tolist()) == ([6, 5], [2.25, 3])
    assert list(run.text_fingerprints.items()) == [("a", "ta"), ("z", "tz")]


def test_a_rounded_case_is_what_its_stored_record_reads_as() -> None:
    """So a run is judged by the very numbers that its baseline would hold."""
    of = counts([3 + 1e-7, 7], [[2 + 1e-8, 1 / 3], [1 / 7, 1e-7]])
    texts = {"p0": "a", "p1": "b"}
    run = MeasuredRun(counts=of, text_fingerprints=texts).rounded()
    measured = dataclasses.replace(record(of).as_measured(), runs=(run,))
    back = Record.of(measured, case="case", costs=None).as_measured()
    for name in ("rounds", "drafted", "accepted"):
        assert getattr(back.counts, name).tolist() == getattr(measured.counts, name).tolist()
    assert back.runs[0].text_fingerprints == texts
