"""How drafts are drawn: the forms in which it is given, and what it changes."""

from __future__ import annotations

import pytest

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.drafting import (
    AS_TARGET,
    DraftSampling,
    drafting_of,
    effective,
    parse_drafting,
)
from pytest_specdec.common.errors import RequestError

FILTERED = Sampling(0.8, 20, 0.9)


@pytest.mark.parametrize(
    ("given", "drafts", "name"),
    [
        ("argmax", Sampling(0.0), "argmax"),
        ("unfiltered", Sampling(0.8), "unfiltered"),
        ("temperature=0.5", Sampling(0.5, 20, 0.9), "draftt0.5"),
        (" temperature=0.5 , unfiltered", Sampling(0.5), "unfiltered-draftt0.5"),
    ],
)
def test_each_form_is_read(given: str, drafts: Sampling, name: str) -> None:
    drafting = parse_drafting(given)
    assert drafting.sampling(FILTERED) == drafts
    assert drafting.name == name
    assert parse_drafting(str(drafting)) == drafting
    assert effective(drafting, FILTERED) == drafting
    assert drafting_of(given) == drafting_of(drafting) == drafting


@pytest.mark.parametrize(
    "given",
    [
        "",
        "greedy",
        "argmax,unfiltered",
        "temperature",
        "temperature=",
        "temperature=0",
        "temperature=nan",
        "temperature=1e9",
        "unfiltered=1",
        "unfiltered,unfiltered",
    ],
)
def test_another_form_is_refused(given: str) -> None:
    with pytest.raises(RequestError, match=r"drafts cannot be drawn by .*; use argmax, unfilt"):
        parse_drafting(given)


@pytest.mark.parametrize(
    ("given", "target"),
    [
        ("argmax", Sampling(0.0)),
        ("temperature=0.5,unfiltered", Sampling(0.0, 20)),
        ("unfiltered", Sampling(0.7)),
        ("temperature=0.8", FILTERED),
    ],
)
def test_what_changes_no_round_is_as_the_target(given: str, target: Sampling) -> None:
    assert parse_drafting(given).sampling(target) == target
    assert effective(parse_drafting(given), target) is AS_TARGET
    assert drafting_of(None).as_target
    assert AS_TARGET.name == str(AS_TARGET) == ""
    assert DraftSampling() == AS_TARGET
