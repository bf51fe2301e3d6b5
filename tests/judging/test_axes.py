"""Which cases are compared along which axis."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.records import case, row

from pytest_specdec.cases.case import Case
from pytest_specdec.judging.axes import MeasuredAxes, _fixed, _values, bucket, compare_axes
from pytest_specdec.report.axes import table
from pytest_specdec.report.words import Phrases


def measured(case: Case, accepted: float, **changes: Any) -> MeasuredAxes:
    """Six prompts, three of each of two categories, with 10 rounds each."""
    whole: Any = {
        "values": _values(case),
        "fixed": _fixed(case),
        "k": case.k,
        "place": 0,
        "prompts": list("abcdef"),
        "categories": ["prose", "code"] * 3,
        "contexts": [],
        "rounds": [10.0] * 6,
        "accepted": [accepted + 0.1 * place for place in range(6)],
    }
    found: MeasuredAxes = whole | changes
    return found


def compared(*sides: tuple[Case, MeasuredAxes]) -> dict[str, list[tuple[str, str, str, int]]]:
    for place, (_, of) in enumerate(sides):
        of["place"] = place
    rows = [row(id=case.id, axes=[]) for case, _ in sides]
    compare_axes(rows, {case.id: of for case, of in sides})
    return {
        one["id"]: [(axis["axis"], axis["start"], axis["end"], axis["k"]) for axis in one["axes"]]
        for one in rows
    }


def test_one_setting_makes_an_axis_and_two_make_none() -> None:
    warm, cold = case(), case(temperature=0.5)
    other = case(label="other", temperature=0.25)
    found = compared(*((of, measured(of, 20.0)) for of in (warm, cold, other)))
    assert ("temperature", "1", "0.5", warm.k) in found[cold.id]
    assert [axis for axis in found[warm.id] if axis[0] != "category"] == []
    assert [axis for axis in found[other.id] if axis[0] != "category"] == []


def test_the_largest_common_k_is_taken() -> None:
    cases = [
        case(k=k, temperature=t) for k, t in ((2, 0.5), (4, 0.5), (2, 1.0), (4, 1.0), (8, 1.0))
    ]
    found = compared(*((of, measured(of, 20.0)) for of in cases))
    axes = [axis for rows in found.values() for axis in rows if axis[0] == "temperature"]
    assert axes == [("temperature", "0.5", "1", 4)]


def test_greedy_and_sampled_cases_compare_and_block_verification_does_not() -> None:
    greedy, sampled = case(temperature=0.0, rule="greedy"), case(rule="rejection")
    found = compared(*((of, measured(of, 20.0)) for of in (greedy, sampled)))
    assert ("temperature", "0", "1", sampled.k) in found[sampled.id]
    block = case(rule="block", temperature=0.5)
    found = compared(*((of, measured(of, 20.0)) for of in (block, sampled)))
    assert not [axis for rows in found.values() for axis in rows if axis[0] == "temperature"]


def test_an_axis_begins_with_what_is_written_first() -> None:
    cases = [case(temperature=t) for t in (0.7, 1.0, 0.3)]
    found = compared(*((of, measured(of, 20.0)) for of in cases))
    axes = [axis for rows in found.values() for axis in rows if axis[0] == "temperature"]
    assert [axis[1:3] for axis in axes] == [("0.7", "1"), ("0.7", "0.3")]


def test_groups_of_two_prompts_that_say_nothing_have_no_interval() -> None:
    of = case(k=4)
    few = {"prompts": list("abcd"), "categories": ["prose", "code"] * 2, "rounds": [10.0] * 4}
    split = measured(of, 0.0, **few) | {"accepted": [9.0, 11.0, 10.0, 30.0]}
    rows = [row(id=of.id, axes=[])]
    compare_axes(rows, {of.id: split})
    (axis,) = rows[0]["axes"]
    assert axis["change"] == pytest.approx(1.1)
    assert axis["interval"] == [None, None]
    assert not axis["moves"]
    words = table([axis], Phrases("en"))[0]
    assert words[-3:] == ["+1.100 ± ?", "4*", "too few"]


def test_values_are_paired_by_prompt() -> None:
    first, second = case(temperature=0.5), case()
    sides = (measured(first, 20.0), measured(second, 21.0, prompts=list("abcxyz"), place=1))
    rows = [row(id=first.id, axes=[]), row(id=second.id, axes=[])]
    compare_axes(rows, dict(zip((first.id, second.id), sides, strict=True)))
    (axis,) = [axis for axis in rows[1]["axes"] if axis["axis"] == "temperature"]
    assert (axis["prompts"], axis["paired"], axis["moves"]) == (3, True, True)
    assert axis["change"] == pytest.approx(0.1)


def test_prompts_of_one_case_are_split_by_category_and_context() -> None:
    of = case()
    contexts = [5, 600, 7, 700, 9, 900]
    accepted = [20.0, 30.0, 20.5, 30.5, 21.0, 31.0]
    split = measured(of, 0.0, contexts=contexts) | {"accepted": accepted}
    rows = [row(id=of.id, axes=[])]
    compare_axes(rows, {of.id: split})
    found = {axis["axis"]: axis for axis in rows[0]["axes"]}
    assert (found["category"]["start"], found["category"]["end"]) == ("prose", "code")
    assert (found["context"]["start"], found["context"]["end"]) == ("1-127", "512-1023")
    assert found["context"]["change"] == pytest.approx(1.0)
    assert found["context"]["moves"]
    assert not found["context"]["paired"]


@pytest.mark.parametrize("length", [1, 127, 128, 255, 256, 4095, 4096])
def test_every_length_is_in_its_bucket(length: int) -> None:
    first, last = map(int, bucket(length).split("-"))
    assert first <= length <= last
