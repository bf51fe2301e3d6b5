"""Which cases of a session are judged by one swap test, and which keep a share of alpha."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.engines import SMALL_CASE, measurement
from helpers.records import record, scaled, steady_counts

from pytest_specdec.cases.case import Case
from pytest_specdec.gate.session_test import Family
from pytest_specdec.judging.comparison import Baseline, Run
from pytest_specdec.judging.family import family_of
from pytest_specdec.judging.policy import Policy
from pytest_specdec.records.conditions import Fingerprints

CASES = [dataclasses.replace(SMALL_CASE, depth=depth) for depth in range(3)]
FRESH: dict[str, Any] = {"text": "fresh", "fingerprints": Fingerprints("target-2", "drafter-1")}
NEW_DRAFTER: dict[str, Any] = {"fingerprints": Fingerprints("target-1", "drafter-2")}


def comparison(case: Case, **changes: Any) -> tuple[Run, Baseline]:
    stored = record(case=case.name, depth=case.depth)
    return (
        Run(case, [measurement(steady_counts(), **changes)], engine="replay"),
        Baseline(case, stored, path=Path("record.json"), judge=None),  # type: ignore[arg-type]
    )


def family(*changes: dict[str, Any], gates: int = 3, **options: Any) -> Family:
    """The family of the first cases, each with changes of its own."""
    sides = {case: comparison(case, **change) for case, change in zip(CASES, changes, strict=False)}

    def comparisons(cases: Collection[Case]) -> Iterator[tuple[Run, Baseline]]:
        return (sides[case] for case in cases if case in sides)

    policy = Policy(
        **{"alpha": 0.01, "inconclusive": "fail", "update": None, "subset": False, **options}
    )
    return family_of(
        CASES,
        comparisons,
        policy=policy,
        gates=gates,
        refusal=lambda run, baseline: "loops" if run.measurements[0].looping else None,
    )


def test_cases_on_other_texts_are_tested_together() -> None:
    found = family(FRESH, FRESH, FRESH)
    assert list(found.pairs) == CASES
    assert found.apart == 0
    assert found.pairs[CASES[1]].prompts == 12


@pytest.mark.parametrize(
    ("change", "apart"), [({}, 0), (NEW_DRAFTER, 1), ({**FRESH, "looping": 12}, 0)]
)
def test_a_case_on_the_same_texts_has_a_share_of_its_own_only_where_something_changed(
    change: dict[str, Any], apart: int
) -> None:
    found = family(FRESH, change, FRESH)
    assert list(found.pairs) == [CASES[0], CASES[2]]
    assert found.apart == apart


def test_a_case_that_cannot_be_measured_leaves_its_share_to_the_others() -> None:
    found = family(FRESH)
    assert (list(found.pairs), found.apart) == ([CASES[0]], 0)


def test_costs_that_changed_keep_their_share() -> None:
    assert family(FRESH, FRESH, FRESH, gates=5).apart == 2


def test_accumulated_cases_are_not_measured_and_keep_their_share() -> None:
    found = family(FRESH, FRESH, FRESH, accumulate=True)
    assert (found.pairs, found.apart) == ({}, 3)


def test_a_subset_is_judged_on_the_prompts_that_have_a_baseline() -> None:
    more = scaled(steady_counts(20), 0.9)
    case = CASES[0]
    run = Run(case, [measurement(more, **FRESH)], engine="replay")
    for subset, prompts in ((True, 12), (False, None)):
        found = family_of(
            [case],
            lambda cases: [(run, comparison(case)[1])],
            policy=Policy(alpha=0.01, inconclusive="fail", update=None, subset=subset),
            gates=1,
            refusal=lambda run, baseline: None,
        )
        assert [pair.prompts for pair in found.pairs.values()] == [prompts] * (prompts is not None)
