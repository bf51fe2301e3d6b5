"""What a record remembers of the baselines before it, and how far it is below the best of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from helpers.records import record, scaled, steady_counts

from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.prompt_counts import SmoothedCounts
from pytest_specdec.records.record import Record
from pytest_specdec.records.replaced import (
    MOST_REPLACED,
    Erosion,
    ReplacedRecord,
    history_after,
)

COMMITS = [f"{number:x}" * 40 for number in range(1, 10)]


def of_length(length: float, **changes: Any) -> Record:
    """A record whose steady counts are scaled to an acceptance length."""
    of = steady_counts()
    return record(scaled(of, (length - 1) / of.expected_accepted), **changes)


def lengths(stored: Record) -> list[float]:
    return [known.acceptance_length for known in stored.replaced]


def test_a_record_remembers_what_it_replaces_and_until_which_commit_that_was_the_baseline() -> None:
    first, second, third = of_length(2.4), of_length(2.3), of_length(2.2)
    second = second.replacing(first, COMMITS[0])
    third = third.replacing(second, None)
    assert [(known.acceptance_length, known.commit) for known in third.replaced] == [
        (2.4, COMMITS[0]),
        (2.3, None),
    ]
    assert third.replaced[0] == first.as_replaced(COMMITS[0])


@pytest.mark.parametrize(
    "now",
    [
        of_length(2.4, device="cuda", torch="3.0"),
        of_length(2.4 + 1e-7),
        of_length(2.4, fingerprints=Fingerprints(target="target-1", drafter="drafter-2")),
    ],
)
def test_counts_that_did_not_change_are_remembered_once(now: Record) -> None:
    earlier = (of_length(2.5).as_replaced(),)
    before = msgspec.structs.replace(of_length(2.4), replaced=earlier)
    assert now.replacing(before, COMMITS[0]).replaced == earlier


def test_other_categories_are_no_other_counts() -> None:
    before = of_length(2.4)
    rows = {
        key: msgspec.structs.replace(row, category="chat") for key, row in before.counts.items()
    }
    assert not before.repeated_by(record(counts=rows))
    assert record(counts=rows).replacing(before).replaced == ()


@pytest.mark.parametrize(
    "changes", [{"definition": "acceptance/2"}, {"new_tokens": 64}, {"template": "chat"}]
)
def test_what_is_not_comparable_is_forgotten(changes: dict[str, Any]) -> None:
    before = msgspec.structs.replace(
        of_length(2.4, **changes), replaced=(of_length(2.5).as_replaced(),)
    )
    assert of_length(2.3).replacing(before, COMMITS[0]).replaced == ()


def test_of_the_updates_at_one_commit_the_first_counts() -> None:
    """What the second one replaces was never committed."""
    before = of_length(2.4)
    trial = of_length(2.6).replacing(before, COMMITS[0])
    assert lengths(of_length(2.3).replacing(trial, COMMITS[0])) == [2.4]
    assert lengths(of_length(2.3).replacing(trial, COMMITS[1])) == [2.4, 2.6]


def test_the_oldest_are_forgotten_first() -> None:
    history: tuple[ReplacedRecord, ...] = ()
    for number in range(MOST_REPLACED + 3):
        history = history_after(history, of_length(1.5 + number / 100).as_replaced())
    assert len(history) == MOST_REPLACED
    assert history[0].acceptance_length == pytest.approx(1.53)
    assert history[-1].acceptance_length == pytest.approx(1.5 + (MOST_REPLACED + 2) / 100)


def eroded(*before: Record) -> Record:
    """A record of length 2.3 that replaced others, each at a commit of its own."""
    history = tuple(
        stored.as_replaced(commit) for stored, commit in zip(before, COMMITS, strict=False)
    )
    return msgspec.structs.replace(of_length(2.3), replaced=history)


def erosion_of(stored: Record, length: float) -> Erosion:
    """Of a run of some acceptance length on the record's texts."""
    return stored.eroded_by(length / stored.acceptance_length)


def test_erosion_is_from_the_best_of_all() -> None:
    erosion = erosion_of(eroded(of_length(2.4), of_length(2.5), of_length(2.35)), 2.25)
    assert erosion == Erosion(
        drop=pytest.approx(0.1),
        best=2.5,
        commit=COMMITS[1],
        current=False,
        baselines=4,
        same_texts=True,
    )
    assert erosion.notable
    assert erosion.describe() == (
        "10.00 % below the best of the last 4 baselines (length 2.5000 at commit 222222222)"
    )


def test_below_the_current_baseline_alone_is_no_erosion() -> None:
    erosion = erosion_of(eroded(of_length(2.2)), 2.07)
    assert erosion.current
    assert erosion.drop == pytest.approx(0.1)
    assert not erosion.notable
    assert erosion.commit is None
    alone = erosion_of(of_length(2.3), 2.07)
    assert alone.describe() == "10.00 % below the baseline (length 2.3000)"


def test_a_loss_of_rounding_is_not_notable() -> None:
    assert not erosion_of(eroded(of_length(2.4)), 2.4 * (1 - 0.9e-3)).notable
    assert erosion_of(eroded(of_length(2.4)), 2.4 * (1 - 1.1e-3)).notable
    assert not erosion_of(eroded(of_length(2.4)), 2.5).notable


def test_baselines_on_other_prompts_are_not_compared() -> None:
    fewer = record(scaled(steady_counts(11), 1.2))
    erosion = erosion_of(eroded(fewer, of_length(2.4)), 2.3)
    assert (erosion.best, erosion.baselines) == (2.4, 2)


@pytest.mark.parametrize(
    ("best", "now_on_same", "same"),
    [
        (of_length(2.4), True, True),
        (of_length(2.4), False, False),
        (of_length(2.4, text="text-2"), True, False),
    ],
)
def test_other_texts_are_named(best: Record, now_on_same: bool, same: bool) -> None:
    stored = eroded(best)
    erosion = erosion_of(stored, 2.3) if now_on_same else stored.eroded_to(2.3)
    assert erosion.drop == pytest.approx(1 - 2.3 / 2.4)
    assert erosion.same_texts is same
    assert (", on other texts)" in erosion.describe()) is not same


def test_texts_that_are_not_known_are_no_same_texts() -> None:
    rows = {
        key: msgspec.structs.replace(row, text="") for key, row in of_length(2.4).counts.items()
    }
    unknown = record(counts=rows)
    assert unknown.as_replaced().texts is None
    stored = msgspec.structs.replace(unknown, replaced=(of_length(2.5).as_replaced(),))
    assert not erosion_of(stored, 2.4).same_texts
    twice = msgspec.structs.replace(unknown, replaced=(unknown.as_replaced(),))
    assert not erosion_of(twice, 2.4).same_texts


def smoothed(stored: Record, length: float) -> Record:
    """A record with smoothed counts of an acceptance length."""
    accepted = (length - 1) * 40
    rows = {
        key: msgspec.structs.replace(
            row, smoothed=SmoothedCounts(rounds=40.0, accepted=(accepted, 0.0, 0.0))
        )
        for key, row in stored.counts.items()
    }
    return msgspec.structs.replace(stored, counts=rows, smoothing=0.1)


def test_smoothed_lengths_are_compared_where_the_record_has_them() -> None:
    """A baseline without any is left out; on other texts exact lengths are all that a run has."""
    current = smoothed(of_length(2.3), 1.9)
    history = (of_length(3.0).as_replaced(), smoothed(of_length(2.2), 2.0).as_replaced())
    assert [known.smoothed_length for known in history] == [None, 2.0]
    stored = msgspec.structs.replace(current, replaced=history)
    erosion = stored.eroded_by(0.95)
    assert (erosion.best, erosion.baselines, erosion.smoothed) == (2.0, 2, True)
    assert erosion.drop == pytest.approx(1 - 1.9 * 0.95 / 2.0)
    assert erosion.describe() == (
        "9.75 % below the best of the last 2 baselines (smoothed length 2.0000)"
    )
    exact = stored.eroded_to(2.4)
    assert (exact.best, exact.baselines, exact.smoothed) == (3.0, 3, False)


def test_repeats_are_pooled() -> None:
    both = record(repeats=2, again=(of_length(2.3).counts,), counts=of_length(2.5).counts)
    remembered = both.as_replaced()
    assert remembered.acceptance_length == pytest.approx(2.4)
    assert remembered.texts != of_length(2.5).as_replaced().texts
    assert remembered.prompts == of_length(2.5).as_replaced().prompts


@pytest.mark.parametrize(("limit", "reached"), [(None, False), (0.05, True), (0.2, False)])
def test_a_limit_is_reached_by_as_large_a_drop(limit: float | None, reached: bool) -> None:
    assert erosion_of(eroded(of_length(2.5)), 2.25).reaches(limit) is reached
