"""One more run on top of all before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.records import record, sampled_counts, scaled, steady_counts

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate import EarlierRun, Verdict, judge_accumulated
from pytest_specdec.records.measured import MeasuredCase
from pytest_specdec.records.record import Record

PROMPTS = 24


def history(
    shares: Sequence[float], *, seed: int = 1, repeats: int = 1, **options: Any
) -> tuple[list[Verdict], list[EarlierRun]]:
    """Runs whose acceptance is a share of the baseline's, judged one after the other."""
    rng = np.random.default_rng(seed)
    skill = rng.beta(6, 2, PROMPTS)
    before = baseline([sampled_counts(rng, skill) for _ in range(repeats)])
    verdicts: list[Verdict] = []
    earlier: list[EarlierRun] = []
    for number, share in enumerate(shares):
        now = record(sampled_counts(rng, skill * share), text=f"run-{number}").as_measured()
        verdict, p_value = judge_accumulated(
            now, before, earlier, **{"margin": 0.005, "alpha": 0.05, **options}
        )
        assert p_value is not None
        verdicts.append(verdict)
        earlier.append(EarlierRun(p_value=p_value, counts=now.counts))
    return verdicts, earlier


def outcome_of(now: Record, before: Record) -> tuple[Verdict, float | None]:
    return judge_accumulated(now.as_measured(), before.as_measured(), [], margin=0.005)


def baseline(runs: Sequence[Counts]) -> MeasuredCase:
    """A baseline of several runs."""
    first, *again = [
        record(run, text=f"base-{number}").as_measured() for number, run in enumerate(runs)
    ]
    return dataclasses.replace(first, runs=(*first.runs, *(other.runs[0] for other in again)))


def test_unchanged_runs_do_not_fail() -> None:
    """Thirty histories of four runs at alpha 5 %: more than six failing has a chance of 1 in
    1,000 at most.
    """
    failed = sum(
        "regressed" in [verdict.outcome for verdict in history([1.0] * 4, seed=seed)[0]]
        for seed in range(30)
    )
    assert failed <= 6


def test_a_strong_drop_fails_names_its_first_run_and_stays() -> None:
    verdicts, _ = history([1.0, 1.0, 1.0, 0.4, 0.4, 0.4])
    outcomes = [verdict.outcome for verdict in verdicts]
    assert "regressed" not in outcomes[:3]
    assert outcomes[4:] == ["regressed", "regressed"]
    assert verdicts[-1].reason.startswith("fell from run 4 on: evidence ")
    assert verdicts[-1].drop is not None
    assert verdicts[-1].drop > 0.2


@pytest.mark.parametrize(("engine", "named"), [("replay", True), ("decode", False)])
def test_runs_that_could_be_judged_on_stored_texts_say_so(engine: str, named: bool) -> None:
    rng = np.random.default_rng(0)
    before, now = (
        record(sampled_counts(rng, np.full(PROMPTS, 0.7)), text=text) for text in ("base", "run-0")
    )
    conditions = msgspec.structs.replace(before.conditions, engine=engine)
    before, now = (
        msgspec.structs.replace(stored, conditions=conditions) for stored in (before, now)
    )
    verdict, _ = outcome_of(now, before)
    assert verdict.outcome == "inconclusive"
    assert ("a run without --specdec-accumulate" in verdict.reason) is named


def test_a_drop_below_the_margin_is_no_failure() -> None:
    verdicts, _ = history([0.4] * 3, margin=0.9)
    assert {verdict.outcome for verdict in verdicts} == {"pass"}


def test_repeats_in_the_baseline_find_it_sooner() -> None:
    evidence = {
        repeats: np.median(
            [history([0.8, 0.8], seed=seed, repeats=repeats)[0][-1].evidence for seed in range(12)]
        )
        for repeats in (1, 8)
    }
    assert evidence[8] > 2 * evidence[1]


def test_a_run_has_a_p_value_and_the_evidence_after_it() -> None:
    (verdict,), (run,) = history([1.0])
    assert 0 < run.p_value < 1
    assert verdict.evidence is not None
    assert verdict.regime == "sampled"
    assert "after 1 runs" in verdict.reason


def test_judging_twice_gives_the_same_p_values() -> None:
    (first, runs), (second, again) = (history([0.9, 0.9]) for _ in range(2))
    assert first == second
    assert [run.p_value for run in runs] == [run.p_value for run in again]


def test_more_gates_ask_for_more_evidence() -> None:
    alone, among = (history([0.6, 0.6], gates=gates)[0][-1] for gates in (1, 10_000))
    assert (alone.outcome, among.outcome) == ("regressed", "inconclusive")


def test_other_conditions_are_an_error_and_no_evidence() -> None:
    verdict, p_value = outcome_of(record(rule="block"), record())
    assert (verdict.outcome, p_value) == ("error", None)


def test_a_dead_baseline_is_an_error_and_no_evidence() -> None:
    verdict, p_value = outcome_of(record(), record(scaled(steady_counts(), 0.0)))
    assert (verdict.outcome, p_value) == ("error", None)
    assert "no draft token was ever accepted" in verdict.reason
