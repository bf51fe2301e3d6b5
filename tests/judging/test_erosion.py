"""Slow erosion over many updates: each passes, together they do not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.engines import SMALL_CASE, measurement
from helpers.records import record, scaled, steady_counts

from pytest_specdec.baselines.forget import forgetting
from pytest_specdec.baselines.store import BaselineStore, write_all
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.cases.case import Case
from pytest_specdec.judging.comparison import Baseline, Run
from pytest_specdec.judging.decisions import Decider, Decision
from pytest_specdec.judging.notes import notes_on
from pytest_specdec.judging.pending_files import PendingFiles
from pytest_specdec.judging.policy import Policy
from pytest_specdec.judging.report_rows import UPDATED, measured_row
from pytest_specdec.records.conditions import Fingerprints

STEP = 0.004
UPDATES = 12
WITH_LIMIT = dataclasses.replace(SMALL_CASE, erosion=0.02)


class Project:
    """A stored baseline, whose drafter gets a little worse with each update."""

    def __init__(self, folder: Path) -> None:
        self.store = BaselineStore(folder)
        write_all({self.path: dumps(record(case=SMALL_CASE.name))})

    @property
    def path(self) -> Path:
        return self.store.record_path(SMALL_CASE)

    def run(self, updates: int, case: Case) -> Run:
        """The run of the drafter after some updates."""
        of = steady_counts()
        length = of.acceptance_length * (1 - STEP) ** updates
        fingerprints = Fingerprints(target="target-1", drafter=f"updated-{updates}")
        now = scaled(of, (length - 1) / of.expected_accepted)
        return Run(case, [measurement(now, fingerprints=fingerprints)], engine="replay")

    def baseline(self, case: Case) -> Baseline:
        judge: Any = None
        return Baseline(case, self.store.record(case), path=self.path, judge=judge)

    def decide(self, updates: int, case: Case = SMALL_CASE, update: str | None = None) -> Decision:
        """Judge the drafter after some updates, and write what is to be stored."""
        run, baseline = self.run(updates, case), self.baseline(case)
        decision = decider(update).decide(run, baseline, "acceptance_length")
        pending = PendingFiles(self.store)
        pending.add(run, baseline, decision)
        write_all(pending.contents)
        return decision


def policy(update: str | None = None) -> Policy:
    return Policy(alpha=0.01, inconclusive="fail", update=update, subset=False)


def decider(update: str | None) -> Decider:
    agreement = SimpleNamespace(agrees=True, message="")
    measurements: Any = SimpleNamespace(oracle=lambda case, level: agreement)
    return Decider(
        policy=policy(update),
        gates=1,
        cases=[SMALL_CASE],
        measurements=measurements,
        comparisons=lambda cases: (),
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_each_update_passes_alone_and_the_limit_fails_all_from_two_percent_on(
    project: Project,
) -> None:
    for updates in range(1, UPDATES + 1):
        drop = 1 - (1 - STEP) ** updates
        alone = project.decide(updates).verdict
        assert (alone.outcome, alone.drop) == ("pass", pytest.approx(STEP, abs=1e-6))
        limited = project.decide(updates, WITH_LIMIT).verdict
        assert limited.outcome == ("regressed" if drop >= 0.02 else "pass")
        if updates > 1:  # the first is below the current baseline alone
            assert limited.erosion is not None
            assert limited.erosion.drop == pytest.approx(drop, abs=1e-6)
            assert limited.erosion.baselines == updates
        updated = project.decide(updates, WITH_LIMIT, update="changed").verdict
        assert (updated.outcome, updated.reason) == ("pass", UPDATED)
    stored = project.store.record(SMALL_CASE)
    assert stored is not None
    assert [known.acceptance_length for known in stored.replaced] == pytest.approx(
        [2.5 * (1 - STEP) ** updates for updates in range(UPDATES)], abs=1e-5
    )


@pytest.fixture
def eroded(project: Project) -> Project:
    for updates in range(1, UPDATES + 1):
        project.decide(updates, update="changed")
    return project


def test_an_unchanged_run_fails_until_the_erosion_is_forgotten(eroded: Project) -> None:
    verdict = eroded.decide(UPDATES, WITH_LIMIT).verdict
    assert (verdict.outcome, verdict.eroded) == ("regressed", True)
    assert "4.70 % below the best of the last 13 baselines" in verdict.reason
    write_all(forgetting([eroded.path]))
    assert eroded.decide(UPDATES, WITH_LIMIT).verdict.outcome == "pass"
    assert eroded.decide(UPDATES, WITH_LIMIT).verdict.erosion is None
    again = eroded.decide(UPDATES + 1, WITH_LIMIT, update="changed")
    assert again.stores == "record"
    assert eroded.decide(UPDATES + 1, WITH_LIMIT).verdict.outcome == "pass"


@pytest.mark.parametrize("update", ["changed", "all"])
def test_no_update_resets_it(eroded: Project, update: str) -> None:
    eroded.decide(UPDATES + 1, WITH_LIMIT, update=update)
    verdict = eroded.decide(UPDATES + 1, WITH_LIMIT).verdict
    assert verdict.outcome == "regressed"
    assert verdict.erosion is not None
    assert verdict.erosion.baselines == UPDATES + 2


def test_the_report_has_it_with_and_without_a_limit(eroded: Project) -> None:
    for case in (SMALL_CASE, WITH_LIMIT):
        run, baseline = eroded.run(UPDATES, case), eroded.baseline(case)
        verdict = decider(None).decide(run, baseline, "acceptance_length").verdict
        row = measured_row(run, baseline, verdict, "replay")
        assert row["erosion"] == {
            "drop": pytest.approx(1 - (1 - STEP) ** UPDATES),
            "best": 2.5,
            "commit": None,
            "baselines": UPDATES + 1,
            "same_texts": True,
            "smoothed": False,
        }


@pytest.mark.parametrize(
    ("case", "update", "ending"),
    [
        (SMALL_CASE, None, "(length 2.5000)"),
        (WITH_LIMIT, None, "(length 2.5000)"),
        (SMALL_CASE, "changed", "(length 2.5000)"),
        (WITH_LIMIT, "changed", "baseline forget-erosion {path}"),
    ],
)
def test_a_note_says_it_and_after_an_update_how_to_accept_it(
    eroded: Project, case: Case, update: str | None, ending: str
) -> None:
    run, baseline = eroded.run(UPDATES + 1, case), eroded.baseline(case)
    verdict = decider(update).decide(run, baseline, "acceptance_length").verdict
    (note,) = notes_on(
        case,
        baseline.record,
        policy(update),
        path=baseline.path,
        device=None,
        verdict=verdict,
        warning=None,
        folder=eroded.store.folder,
    )
    assert note.startswith(f"{case.id}: 5.08 % below the best of the last 13 baselines")
    assert note.endswith(ending.format(path=baseline.path))
