"""The engine is asked once for each case."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from helpers.engines import SMALL_CASE, ScriptedEngine, measurement
from helpers.records import record, steady_counts

from pytest_specdec.baselines.repeats import seeded
from pytest_specdec.baselines.store import BaselineStore, write_all
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.cases.case import MEASURE, Case
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.judging.costs import SessionCosts, costs_of
from pytest_specdec.judging.measurements import Measurements
from pytest_specdec.judging.stored_records import StoredRecords
from pytest_specdec.records.case_costs import CaseCosts
from pytest_specdec.speedup.cost_profile import CostProfile

PROFILE = CostProfile(verify={3: 12.0}, draft={0: {3: 4.0}}, target_ms=10.0)
COSTS = CaseCosts(target_ms=10.0, verify_ms=6.0, draft_ms=2.0)
SAME_COSTS = costs_of(SMALL_CASE, PROFILE)


def costs_of_session(
    folder: Path, engine: Any, *cases: Case, stored: CaseCosts | None = None
) -> SessionCosts:
    """Costs of a session whose cases have a baseline with the `stored` costs."""
    store = BaselineStore(folder)
    write_all({store.record_path(case): dumps(record(costs=stored)) for case in cases})
    return SessionCosts(cases, engine, StoredRecords(store))


def measurements_of(folder: Path, engine: Any, *seeds: Case) -> Measurements:
    costs = costs_of_session(folder, engine, SMALL_CASE)
    return Measurements({SMALL_CASE: seeds or (SMALL_CASE,)}, engine, costs)


def test_a_case_is_measured_once_and_with_every_seed_of_the_plan(tmp_path: Path) -> None:
    seeds = [seeded(SMALL_CASE, number) for number in (3, 4)]
    engine = ScriptedEngine(lambda case: measurement(steady_counts(), text=str(case.texts.seed)))
    measurements = measurements_of(tmp_path, engine, *seeds)
    assert not measurements.include(SMALL_CASE)
    run = measurements.run(SMALL_CASE)
    assert measurements.run(SMALL_CASE) is run
    assert measurements.include(SMALL_CASE)
    assert engine.measured == seeds
    assert run.measured.seed == 3
    assert run.counts.total_rounds == 2 * steady_counts().total_rounds
    assert [first.text_fingerprints["p0"] for first in run.measured.runs] == ["3-p0", "4-p0"]


def test_the_oracle_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[float] = []

    def oracle(engine: Any, case: Case, alpha: float) -> object:
        levels.append(alpha)
        return object()

    monkeypatch.setattr("pytest_specdec.judging.measurements.oracle", oracle)
    measurements = measurements_of(tmp_path, None)
    assert measurements.oracle(SMALL_CASE, 0.01) is measurements.oracle(SMALL_CASE, 0.01)
    assert levels == [0.01]


def test_a_case_whose_texts_were_read_is_included_and_not_measured(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda case: measurement(steady_counts()))
    measurements = measurements_of(tmp_path, engine)
    assert not measurements.include(SMALL_CASE)
    assert [text.ids for text in measurements.texts(SMALL_CASE)] == [[1, 2]]
    assert measurements.include(SMALL_CASE)
    assert engine.measured == []


def test_measured_costs_are_shared_by_cases_of_one_pair(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda case: measurement(steady_counts()), costs=PROFILE)
    pair = [dataclasses.replace(SMALL_CASE, k=k, costs=MEASURE) for k in (2, 3)]
    other = dataclasses.replace(pair[0], drafter=DraftModelSpec("/models/other"))
    costs = costs_of_session(tmp_path, engine, *pair, other, SMALL_CASE)
    assert costs.profile(pair[0]) is costs.profile(pair[1]) is PROFILE
    assert costs.profile(other) is PROFILE
    assert costs.profile(SMALL_CASE) is None
    assert engine.timed == [pair, [other]]


def test_without_a_profile_the_costs_are_those_of_the_baseline(tmp_path: Path) -> None:
    costs = costs_of_session(tmp_path, None, SMALL_CASE, stored=COSTS)
    assert costs.of(SMALL_CASE) == COSTS
    assert not costs.differ(SMALL_CASE)


@pytest.mark.parametrize(
    ("profile", "stored", "differ"),
    [
        (MEASURE, COSTS, True),
        (MEASURE, None, False),
        ("file", COSTS, True),
        ("file", SAME_COSTS, False),
        ("file", None, False),
    ],
)
def test_costs_differ_from_those_that_a_baseline_holds(
    tmp_path: Path, profile: str, stored: CaseCosts | None, differ: bool
) -> None:
    path = tmp_path / "costs.json"
    path.write_text(PROFILE.to_json())
    case = dataclasses.replace(SMALL_CASE, costs=path if profile == "file" else profile)
    assert costs_of_session(tmp_path, None, case, stored=stored).differ(case) == differ


def test_a_case_measured_beside_others_is_left_out_of_reports_until_a_test_asks(
    tmp_path: Path,
) -> None:
    engine = ScriptedEngine(lambda case: measurement(steady_counts()))
    measurements = measurements_of(tmp_path, engine)
    run = measurements.beside(SMALL_CASE)
    assert not measurements.include(SMALL_CASE)
    assert measurements.run(SMALL_CASE) is run
    assert measurements.include(SMALL_CASE)
    assert engine.measured == [SMALL_CASE]
