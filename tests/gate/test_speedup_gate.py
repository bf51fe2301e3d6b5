"""Speed-ups whose costs changed: distinguished from acceptance, within the error of the times."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.judged import judge_records
from helpers.records import record, sampled_counts, scaled, steady_counts

from pytest_specdec.gate.cost_change import DRIFT, CostChange
from pytest_specdec.gate.paired import Pair
from pytest_specdec.gate.speedup_gate import judge_speedup
from pytest_specdec.gate.verdict import Estimate, Verdict
from pytest_specdec.records.case_costs import CaseCosts
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.record import Record
from pytest_specdec.report.failure_message import explain, headline

COSTS = CaseCosts(10.0, 12.0, 4.0, 0.0, 40, "gpu", "torch 2")
LEVEL, MARGIN = 0.001, 0.1
OTHER = Fingerprints(target="target-1", drafter="drafter-2")
BEFORE = record(steady_counts())


def costs(**changes: Any) -> CaseCosts:
    return msgspec.structs.replace(COSTS, **changes)


def judged(
    now: CaseCosts | None,
    *,
    before: CaseCosts | None = COSTS,
    factor: float = 1.0,
    run: Record | None = None,
) -> Verdict:
    fresh = record(scaled(steady_counts(), factor), fingerprints=OTHER) if run is None else run
    acceptance = judge_records(fresh, BEFORE, metric="speedup", margin=0.005)
    return judge_speedup(acceptance, before, now, margin=MARGIN, level=LEVEL)


def slower(share: float, **changes: Any) -> CaseCosts:
    """A round that takes so much longer."""
    return costs(verify_ms=12.0 + 16.0 * share, **changes)


def test_the_same_costs_leave_the_verdict_on_acceptance() -> None:
    for factor, outcome in ((1.0, "pass"), (0.9, "regressed"), (1.1, "improved")):
        verdict = judged(COSTS, factor=factor)
        assert verdict.outcome == outcome
        assert verdict.costs is None
        assert verdict.before == pytest.approx(BEFORE.as_counts().acceptance_length * 10 / 16)


@pytest.mark.parametrize(("before", "now"), [(None, COSTS), (COSTS, None)])
def test_costs_of_one_side_serve_both(before: CaseCosts | None, now: CaseCosts | None) -> None:
    assert judged(now, before=before).outcome == "pass"
    assert judged(now, before=before, factor=0.9).outcome == "regressed"


def test_no_costs_at_all_are_an_error() -> None:
    assert judged(None, before=None).outcome == "error"
    verdict = judged(costs(target_ms=None))
    assert verdict.outcome == "error"
    assert "target_ms" in verdict.reason


@pytest.mark.parametrize(
    ("share", "outcome"),
    [
        (0.0, "pass"),
        (0.02, "pass"),
        (0.15, "regressed"),
        (-0.15, "improved"),
        (0.06, "inconclusive"),
    ],
)
def test_new_costs_alone(share: float, outcome: str) -> None:
    verdict = judged(slower(share, software="torch 3"))
    assert verdict.outcome == outcome
    assert verdict.drop == pytest.approx(1 - 1 / (1 + share))
    assert verdict.limit == MARGIN


def test_acceptance_fails_where_costs_stay_as_they_were() -> None:
    verdict = judged(slower(0.001), factor=0.97)
    assert verdict.outcome == "regressed"
    assert verdict.reason.startswith("acceptance fell on the same texts by the margin or more")


def test_cheaper_drafts_make_up_for_lost_acceptance() -> None:
    assert judged(slower(-0.2), factor=0.97).outcome == "improved"
    assert judged(slower(-0.03), factor=0.97).outcome == "regressed"


def test_dearer_drafts_eat_up_a_gain() -> None:
    assert judged(slower(0.2), factor=1.05).outcome == "regressed"


def test_noisy_times_settle_nothing_and_say_how_many_would() -> None:
    verdict = judged(slower(0.04, relative_error=0.03), before=costs(relative_error=0.03))
    assert verdict.outcome == "inconclusive"
    assert "time about" in verdict.reason
    assert "rounds of each part" in verdict.reason


def test_times_of_another_machine_are_not_compared_but_acceptance_is() -> None:
    verdict = judged(costs(machine="laptop", verify_ms=99.0))
    assert verdict.outcome == "inconclusive"
    assert "'gpu', now 'laptop'" in verdict.reason
    assert verdict.reason.endswith("--specdec-update=changed")
    assert judged(costs(machine="laptop", verify_ms=99.0), factor=0.9).outcome == "regressed"


def test_an_error_stays_one() -> None:
    other = record(steady_counts(), temperature=0.5)
    assert judged(slower(0.5), run=other).outcome == "error"


def test_sampled_acceptance_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    skill = rng.uniform(0.4, 0.8, 200)
    before, now = (record(sampled_counts(rng, skill), text=f"text-{turn}") for turn in range(2))
    acceptance = judge_records(now, before, metric="speedup", margin=0.005)
    assert acceptance.regime == "sampled"
    verdict = judge_speedup(acceptance, COSTS, slower(0.02), margin=MARGIN, level=LEVEL)
    exact = judged(slower(0.02))
    assert verdict.interval is not None
    assert exact.interval is not None
    assert verdict.interval[1] - verdict.interval[0] > exact.interval[1] - exact.interval[0]


def test_the_message_separates_acceptance_and_costs() -> None:
    verdict = judged(slower(0.2, software="torch 3"), factor=0.98)
    lines = explain(verdict, case_id="c", update_command="pytest", prompt_names={})
    assert any(
        line.startswith("  acceptance -") and "length 2.5000 -> 2.4700" in line for line in lines
    )
    (line_of_costs,) = [line for line in lines if line.startswith("  costs")]
    assert "-16.67 %" in line_of_costs
    assert "verification 12 -> 15.2 ms" in line_of_costs
    assert "torch 2 -> torch 3" in line_of_costs
    assert not any(
        line.startswith("  costs")
        for line in explain(judged(COSTS), case_id="c", update_command="", prompt_names={})
    )


def test_false_alarms_of_unchanged_costs_keep_the_level() -> None:
    """Two profiles of one machine, each with the errors that it states: no more fail than the level
    says.
    """
    rng, level, error, runs = np.random.default_rng(1), 0.02, 0.02, 4000
    acceptance = judge_records(
        record(steady_counts(), fingerprints=OTHER), BEFORE, metric="speedup", margin=0.005
    )

    def profile() -> CaseCosts:
        target, verify, draft = np.array([10.0, 12.0, 4.0]) * np.exp(rng.normal(0, error, 3))
        return CaseCosts(target, verify, draft, error, 40, "gpu")

    failed = sum(
        judge_speedup(acceptance, profile(), profile(), margin=1e-9, level=level).outcome
        == "regressed"
        for _ in range(runs)
    )
    assert failed / runs < level + 3 * np.sqrt(level / runs)


def test_a_speedup_falls_by_less_than_all_of_it() -> None:
    """Wide errors: a ratio of positive numbers stays positive, so no bound of a drop exceeds
    100 %.
    """
    verdict = judged(slower(3.0, relative_error=0.5), before=costs(relative_error=0.5))
    assert verdict.interval is not None
    assert verdict.interval[0] < verdict.drop < verdict.interval[1] < 1  # type: ignore[operator]


def test_the_error_of_a_ratio_is_that_of_all_its_times() -> None:
    change = CostChange(before=costs(relative_error=0.03), now=costs(relative_error=0.04))
    assert change.drop == 0
    assert change.error == pytest.approx(np.hypot(np.sqrt(2) * 0.05, DRIFT))


def in_contexts(fall: float, now: CaseCosts, metric_margin: float = 0.01) -> Verdict:
    """The verdict where the length fell by a share in the same contexts, and by 2 % on the texts,
    within noise of 8 % either way.
    """
    before = steady_counts()
    pair = Pair.of(before, scaled(before, 0.98))
    length = before.acceptance_length
    estimate = Estimate(
        name="in the same contexts",
        before=length,
        now=length * (1 - fall),
        drop=fall,
        interval=(fall - 0.002, fall + 0.002),
    )
    acceptance = Verdict(
        outcome="regressed" if fall >= metric_margin else "pass",
        metric="speedup",
        reason="moved in the same contexts",
        regime="target changed",
        before=length,
        now=pair.now.acceptance_length,
        drop=pair.length_drop / length,
        interval=(-0.06, 0.10),
        estimate=estimate,
        pair=pair,
    )
    return judge_speedup(acceptance, COSTS, now, margin=MARGIN, level=LEVEL)


def test_an_estimate_in_the_same_contexts_is_of_the_speedup_too() -> None:
    verdict = in_contexts(0.03, COSTS)
    assert verdict.outcome == "regressed"
    assert verdict.estimate is not None
    assert verdict.estimate.before == pytest.approx(
        COSTS.speedup(steady_counts().acceptance_length)
    )
    assert verdict.estimate.now == pytest.approx(verdict.estimate.before * 0.97)
    assert verdict.estimate.drop == 0.03


def test_new_costs_are_judged_with_the_estimate_that_decided() -> None:
    verdict = in_contexts(0.001, slower(0.15))
    assert verdict.outcome == "regressed"
    assert verdict.estimate is not None
    assert verdict.estimate.drop == pytest.approx(1 - 0.999 / 1.15)
    assert f"({-100 * verdict.estimate.drop:.2f} %" in headline(verdict)
    assert in_contexts(0.001, slower(0.001)).outcome == "pass"
