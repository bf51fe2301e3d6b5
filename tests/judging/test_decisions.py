"""What is decided on a run and a baseline, and what is then stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.engines import SMALL_CASE, measurement
from helpers.records import record, scaled, steady_counts

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.reference_drafters import References
from pytest_specdec.gate.accumulation import EarlierRun
from pytest_specdec.judging.comparison import Baseline, Run
from pytest_specdec.judging.decisions import Decider, Decision, gates_of
from pytest_specdec.judging.policy import Policy
from pytest_specdec.judging.report_rows import CREATED, UPDATED
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.record import Record

NAME = SMALL_CASE.name
PATH = Path("/baselines/text/record.json")


class NoJudge:
    """For baselines that are handed to the rules themselves."""

    def passes(self, run: Run, baseline: Baseline, metric: str, *, differs: bool) -> bool:
        raise AssertionError


def rules(
    *,
    agrees: bool = True,
    gates: int = 1,
    beside: Sequence[tuple[Run, Baseline]] = (),
    **options: Any,
) -> Decider:
    """`beside` are the session's other cases."""
    policy = Policy(
        **{"alpha": 0.01, "inconclusive": "fail", "update": None, "subset": False, **options}
    )
    agreement = SimpleNamespace(agrees=agrees, message="counts contradict the models")
    measurements: Any = SimpleNamespace(oracle=lambda case, level: agreement)
    return Decider(
        policy=policy,
        gates=gates,
        cases=[SMALL_CASE],
        measurements=measurements,
        comparisons=lambda cases: beside,
    )


def run(of: Counts | None = None, **changes: Any) -> Run:
    of = steady_counts() if of is None else of
    return Run(SMALL_CASE, [measurement(of, **changes)], engine="replay")


def baseline(stored: Record | None, **options: Any) -> Baseline:
    return Baseline(SMALL_CASE, stored, path=PATH, judge=NoJudge(), **options)


def references(factor: float, lookup: float | None = None) -> References:
    """References that have a share of the steady counts accepted."""
    of = scaled(steady_counts(), factor)
    return References(
        uniform=of,
        unigrams=of,
        lookup=None if lookup is None else scaled(steady_counts(), lookup),
    )


def outcome(decision: Decision) -> tuple[str, str]:
    return decision.verdict.outcome, decision.stores


STORED = record(case=NAME)


def test_an_unchanged_run_passes_and_stores_nothing() -> None:
    decision = rules().decide(run(), baseline(STORED), "acceptance_length")
    assert outcome(decision) == ("pass", "nothing")
    assert decision.p_value is None


def test_a_worse_run_regresses() -> None:
    decision = rules().decide(
        run(scaled(steady_counts(), 0.9)), baseline(STORED), "acceptance_length"
    )
    assert outcome(decision) == ("regressed", "nothing")


def test_a_run_is_judged_by_the_rounded_counts_that_would_be_stored() -> None:
    """Last digits that no file holds decide nothing."""
    of = steady_counts()
    moved = dataclasses.replace(of, accepted=of.accepted + 3e-7)
    verdict = rules().decide(run(moved), baseline(STORED), "acceptance_length").verdict
    assert verdict.drop == 0.0
    assert verdict.pair is not None
    assert verdict.pair.now.accepted.tolist() == of.accepted.tolist()


def test_the_run_of_another_case_is_an_error() -> None:
    other = dataclasses.replace(SMALL_CASE, depth=1)
    decision = rules().decide(
        Run(other, [measurement(steady_counts())], engine="replay"),
        baseline(STORED),
        "acceptance_length",
    )
    assert outcome(decision) == ("error", "nothing")
    assert other.id in decision.verdict.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprints": Fingerprints(target="same", drafter="same")}, "the same model"),
        ({"looping": 12}, "end in a loop"),
        ({"expected": scaled(steady_counts(), 0.5)}, "the decoder is wrong"),
    ],
)
@pytest.mark.parametrize("stored", [STORED, None])
def test_what_is_no_measurement_is_refused_whatever_the_baseline(
    changes: dict[str, Any], reason: str, stored: Record | None
) -> None:
    decision = rules(update="all").decide(run(**changes), baseline(stored), "acceptance_length")
    assert outcome(decision) == ("error", "nothing")
    assert reason in decision.verdict.reason


def test_a_missing_baseline_is_an_error_that_names_the_cure() -> None:
    decision = rules().decide(run(), baseline(None), "acceptance_length")
    assert outcome(decision) == ("error", "nothing")
    assert decision.verdict.reason == (
        f"no baseline at {PATH}; create it with --specdec-update=new"
    )


@pytest.mark.parametrize("update", ["new", "all"])
def test_an_update_creates_a_missing_baseline(update: str) -> None:
    decision = rules(update=update).decide(run(), baseline(None), "acceptance_length")
    assert outcome(decision) == ("pass", "record")
    assert decision.verdict.reason == CREATED
    assert decision.verdict.now == steady_counts().acceptance_length


@pytest.mark.parametrize(
    ("of", "changes", "reason"),
    [
        (scaled(steady_counts(), 0.0), {}, "no draft token was ever accepted"),
        (steady_counts(), {"references": lambda: references(1.0)}, "no better than that of"),
    ],
)
@pytest.mark.parametrize("stored", [record(fingerprints=Fingerprints("old", "old-1")), None])
def test_a_drafter_that_knows_nothing_becomes_no_baseline(
    of: Counts, changes: dict[str, Any], reason: str, stored: Record | None
) -> None:
    decision = rules(update="all").decide(run(of, **changes), baseline(stored), "acceptance_length")
    assert outcome(decision) == ("error", "nothing")
    assert reason in decision.verdict.reason


def test_counts_that_the_models_contradict_become_no_baseline() -> None:
    decision = rules(update="new", agrees=False).decide(run(), baseline(None), "acceptance_length")
    assert outcome(decision) == ("error", "nothing")
    assert decision.verdict.reason.startswith("counts contradict the models, so it cannot")


@pytest.mark.parametrize(("lookup", "warns"), [(None, False), (0.5, False), (1.2, True)])
def test_a_new_baseline_below_prompt_lookup_has_a_warning(
    lookup: float | None, warns: bool
) -> None:
    decision = rules(update="new").decide(
        run(references=lambda: references(0.1, lookup)), baseline(None), "acceptance_length"
    )
    assert outcome(decision) == ("pass", "record")
    assert (decision.warning is not None) == warns


WORSE = scaled(steady_counts(), 0.9)


@pytest.mark.parametrize(
    ("options", "of", "expected"),
    [
        ({"update": "changed"}, WORSE, ("pass", "record")),
        ({"update": "all"}, WORSE, ("pass", "record")),
        ({"update": "new"}, WORSE, ("regressed", "missing token maps")),
        ({"update": "changed", "subset": True}, WORSE, ("regressed", "missing token maps")),
        ({"update": "changed"}, steady_counts(), ("pass", "missing token maps")),
    ],
)
def test_what_an_update_rewrites(
    options: dict[str, Any], of: Counts, expected: tuple[str, str]
) -> None:
    decision = rules(**options).decide(run(of), baseline(STORED), "acceptance_length")
    assert outcome(decision) == expected
    assert (decision.verdict.reason == UPDATED) == (expected[1] == "record")


def test_token_maps_of_another_drafter_are_not_completed() -> None:
    fingerprints = Fingerprints(target="target-1", drafter="drafter-2")
    decision = rules(update="new").decide(
        run(fingerprints=fingerprints), baseline(STORED), "acceptance_length"
    )
    assert outcome(decision) == ("pass", "nothing")


def test_an_accumulated_run_has_a_p_value_and_is_judged_with_the_earlier_ones() -> None:
    earlier = [EarlierRun(p_value=0.5, counts=steady_counts())]
    decision = rules(accumulate=True).decide(
        run(text="fresh"), baseline(STORED, earlier=earlier), "acceptance_length"
    )
    assert decision.p_value is not None
    assert "after 2 runs" in decision.verdict.reason


def test_more_gates_need_more_evidence() -> None:
    few, many = (
        rules(gates=gates).decide(
            run(WORSE, text="fresh", fingerprints=Fingerprints("target-2", "drafter-1")),
            baseline(STORED),
            "acceptance_length",
        )
        for gates in (1, 1000)
    )
    assert (few.verdict.outcome, many.verdict.outcome) == ("regressed", "error")


def test_cases_that_vary_together_share_one_test() -> None:
    """The same drop in each of 16 cases is no more likely by chance than in one: by Bonferroni the
    12 prompts could not show it.
    """
    fresh = {"text": "fresh", "fingerprints": Fingerprints("target-2", "drafter-1")}
    cases = [dataclasses.replace(SMALL_CASE, depth=depth) for depth in range(16)]
    sides = [
        (
            Run(case, [measurement(WORSE, **fresh)], engine="replay"),
            Baseline(
                case,
                record(case=case.name, depth=case.depth),
                path=PATH,
                judge=NoJudge(),
            ),
        )
        for case in cases
    ]
    together = Decider(
        policy=Policy(alpha=0.01, inconclusive="fail", update=None, subset=False),
        gates=16,
        cases=cases,
        measurements=None,  # type: ignore[arg-type]
        comparisons=lambda cases: sides,
    )
    for run, baseline in sides:
        verdict = together.decide(run, baseline, "acceptance_length").verdict
        assert verdict.outcome == "regressed"
        assert verdict.p_value == pytest.approx(1 / 1001)
        assert "p is adjusted for the 16 cases of the session that are tested" in verdict.reason


def test_the_level_of_tests_without_a_baseline_is_shared() -> None:
    assert rules(alpha=0.01).test_level == 0.005
    assert rules(alpha=0.01, gates=4).test_level == 0.0025


def test_a_case_is_a_gate_and_its_new_costs_are_another() -> None:
    class Costs:
        def differ(self, case: Any) -> bool:
            return case.depth == 1

    cases = [dataclasses.replace(SMALL_CASE, depth=depth) for depth in (0, 1, 2)]
    costs: Any = Costs()
    assert gates_of(cases, costs) == 4


def test_a_speedup_without_costs_is_an_error() -> None:
    decision = rules(update="all").decide(run(WORSE), baseline(STORED), "speedup")
    assert outcome(decision) == ("error", "nothing")


def test_a_profile_that_does_not_cover_the_case_is_an_error() -> None:
    case = dataclasses.replace(SMALL_CASE, costs="costs.json")
    uncovered = Run(case, [measurement(steady_counts())], engine="replay")
    stored = Baseline(case, STORED, path=PATH, judge=NoJudge())
    decision = rules().decide(uncovered, stored, "speedup")
    assert decision.verdict.reason == (
        "the cost profile does not cover k=3, depth=0; measure one that does"
    )
