"""`run == baseline`, from the operands to the verdict that is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from helpers.engines import SMALL_CASE, measurement
from helpers.records import record, steady_counts

from pytest_specdec.cases.case import Case
from pytest_specdec.gate.verdict import Outcome, Verdict
from pytest_specdec.judging.comparison import Baseline, Run
from pytest_specdec.judging.decisions import Decision
from pytest_specdec.judging.judge import SessionJudge
from pytest_specdec.judging.policy import Policy


class Scripted:
    """Rules, files and messages that follow a script."""

    policy = Policy(alpha=0.01, inconclusive="fail", update=None, subset=False)

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = list(outcomes)
        self.decided: list[tuple[Run, Baseline, str]] = []
        self.added: list[Decision] = []
        everything: Any = self
        self.judge = SessionJudge(everything, everything, everything)

    def decide(self, run: Run, baseline: Baseline, metric: str) -> Decision:
        self.decided.append((run, baseline, metric))
        outcome = self._outcomes.pop(0)
        return Decision(
            verdict=Verdict(outcome=outcome, metric=metric, reason="scripted"),
            warning="slow" if outcome == "improved" else None,
        )

    def add(self, run: Run, baseline: Baseline, decision: Decision) -> None:
        self.added.append(decision)

    def lines(self, verdict: Verdict, run: Run, baseline: Baseline) -> list[str]:
        return [f"{verdict.metric} failed"]

    def sides(self, case: Case = SMALL_CASE) -> tuple[Run, Baseline]:
        return (
            Run(case, [measurement(steady_counts())], engine="replay"),
            Baseline(case, record(), path=Path("record.json"), judge=self.judge),
        )


@pytest.mark.parametrize(
    ("outcome", "passes"),
    [
        ("pass", True),
        ("improved", True),
        ("regressed", False),
        ("inconclusive", False),
        ("error", False),
    ],
)
def test_equality_is_the_verdict_in_either_order(outcome: Outcome, passes: bool) -> None:
    script = Scripted(*[outcome] * 4)
    run, baseline = script.sides()
    assert (run == baseline) is passes
    assert (baseline == run) is passes
    assert (run != baseline) is not passes
    assert (baseline != run) is not passes
    assert [
        (first is run, second is baseline, metric) for first, second, metric in script.decided
    ] == [(True, True, "acceptance_length")] * 4


def test_metrics_are_judged_by_name_and_are_floats_otherwise() -> None:
    script = Scripted("pass", "regressed")
    run, baseline = script.sides()
    assert run.acceptance_rate == baseline.acceptance_rate
    assert baseline.acceptance_rate != run.acceptance_rate
    assert [metric for *_, metric in script.decided] == ["acceptance_rate"] * 2
    assert run.acceptance_length == run.acceptance_length == pytest.approx(2.5)
    assert run.acceptance_length > 2
    with pytest.raises(TypeError, match="compare a metric with itself"):
        assert run.acceptance_rate == baseline.acceptance_length


def test_other_things_are_not_judged() -> None:
    script = Scripted()
    run, baseline = script.sides()
    assert run != 1
    assert baseline != 1
    assert script.decided == []
    assert script.judge.verdict_on(run, 1) is None
    assert script.judge.verdict_on(run.acceptance_length, 1.0) is None


def test_every_comparison_is_a_judgement_until_it_is_taken() -> None:
    script = Scripted("pass", "regressed", "regressed", "error")
    run, baseline = script.sides()
    for differs in (False, False, True, True):
        script.judge.passes(run, baseline, "acceptance_length", differs=differs)
    judgements = script.judge.take_judgements()
    assert [(of.passes, of.expected, list(of.message)) for of in judgements] == [
        (True, False, []),
        (False, False, ["acceptance_length failed"]),
        (False, True, ["acceptance_length failed"]),
        (False, False, ["acceptance_length failed"]),  # an error is no difference
    ]
    assert script.judge.take_judgements() == []
    assert len(script.added) == 4


def test_the_most_severe_verdict_of_a_case_is_kept() -> None:
    script = Scripted("improved", "regressed", "pass")
    run, baseline = script.sides()
    assert script.judge.most_severe(SMALL_CASE) is None
    for metric in ("acceptance_length", "acceptance_rate", "speedup"):
        script.judge.passes(run, baseline, metric, differs=False)
    most_severe = script.judge.most_severe(SMALL_CASE)
    assert most_severe is not None
    assert (most_severe.outcome, most_severe.metric) == ("regressed", "acceptance_rate")
    assert script.judge.warning(SMALL_CASE) == "slow"


def test_a_failed_comparison_finds_its_verdict_by_the_baseline() -> None:
    """Also where the run is of another case, which has a verdict of its own."""
    script = Scripted("pass", "error")
    run, _ = script.sides()
    other = dataclasses.replace(SMALL_CASE, depth=1)
    own_run, baseline = script.sides(other)
    for compared in (own_run, run):
        script.judge.passes(compared, baseline, "acceptance_length", differs=False)
    for sides in ((run, baseline), (baseline, run)):
        verdict = script.judge.verdict_on(*sides)
        assert verdict is not None
        assert verdict.outcome == "error"
    assert script.judge.verdict_on(run.acceptance_length, baseline.acceptance_length) == verdict
    assert script.judge.verdict_on(run.acceptance_rate, baseline.acceptance_rate) is None
