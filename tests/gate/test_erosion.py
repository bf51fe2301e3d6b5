"""The verdict on slow erosion."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from helpers.judged import judge_records
from helpers.records import record, scaled, steady_counts

from pytest_specdec.gate.erosion import erosion_of, judge_erosion
from pytest_specdec.gate.verdict import Estimate, Verdict
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.record import Record

COMMIT = "1a2b3c4d5e" * 4
BEST = 2.5


def of_length(length: float, prompts: int = 12, **changes: Any) -> Record:
    of = steady_counts(prompts)
    return record(scaled(of, (length - 1) / of.expected_accepted), **changes)


BEFORE = msgspec.structs.replace(of_length(2.44), replaced=(of_length(BEST).as_replaced(COMMIT),))


def judged(now: Record, limit: float | None, before: Record = BEFORE, **options: Any) -> Verdict:
    verdict = judge_records(now, before, **{"margin": 0.005, **options})
    return judge_erosion(verdict, erosion_of(verdict, now.as_measured(), before), limit)


def new_drafter(length: float, **changes: Any) -> Record:
    fingerprints = Fingerprints(target="target-1", drafter="drafter-2")
    return of_length(length, fingerprints=fingerprints, **changes)


def fallen(drop: float) -> Record:
    return new_drafter(BEST * (1 - drop))


def test_without_a_limit_it_is_reported_and_decides_nothing() -> None:
    verdict = judged(fallen(0.027), None)
    assert verdict.outcome == "pass"
    assert not verdict.eroded
    assert verdict.erosion is not None
    assert verdict.erosion.drop == pytest.approx(0.027)
    assert verdict.erosion.commit == COMMIT


def test_from_the_limit_on_it_fails_with_a_reason_of_its_own() -> None:
    verdict = judged(fallen(0.027), 0.027 - 1e-9)
    assert (verdict.outcome, verdict.eroded, verdict.limit) == ("regressed", True, 0.027 - 1e-9)
    assert verdict.reason == (
        "the acceptance length has eroded: it is 2.70 % below the best of the last 2 baselines "
        "(length 2.5000 at commit 1a2b3c4d5)"
    )
    assert verdict.now == pytest.approx(BEST * (1 - 0.027))
    assert not verdict.passes("warn")
    assert judged(fallen(0.027), 0.027 + 1e-9).outcome == "pass"


def test_a_gain_on_the_baseline_may_still_be_a_loss_on_the_best() -> None:
    assert judged(new_drafter(2.46), None).outcome == "improved"
    assert judged(new_drafter(2.46), 0.01).outcome == "regressed"


def test_a_regression_keeps_its_reason() -> None:
    verdict = judged(fallen(0.1), 0.02)
    assert verdict.outcome == "regressed"
    assert not verdict.eroded
    assert verdict.reason.startswith("fell on the same texts by the margin or more")
    assert verdict.erosion is not None


def test_the_current_baseline_is_one_of_those_that_are_compared() -> None:
    alone = of_length(2.5)
    assert judged(fallen(0.004), 0.003, alone).eroded
    assert judged(fallen(0.004), 0.005, alone).erosion is None


def test_an_unchanged_run_at_the_best_is_not_remarked_on() -> None:
    best = msgspec.structs.replace(BEFORE, replaced=(of_length(2.3).as_replaced(),))
    assert judged(of_length(2.44), 0.001, best) == judge_records(
        of_length(2.44), best, margin=0.005
    )


def test_some_of_the_prompts_are_not_judged() -> None:
    few = new_drafter(2.2, prompts=6)
    verdict = judged(few, 0.001, margin=0.5, subset=True)
    assert (verdict.outcome, verdict.erosion) == ("pass", None)


def test_more_prompts_than_the_baseline_has_are_judged_on_those_that_it_has() -> None:
    verdict = judged(new_drafter(2.4, prompts=14), None, margin=0.5, subset=True)
    assert verdict.erosion is not None
    assert verdict.erosion.drop == pytest.approx(1 - 2.4 / 2.5)
    assert verdict.erosion.same_texts


def test_errors_stay_errors() -> None:
    assert judged(of_length(2.0, temperature=0.5), 0.001).outcome == "error"


def test_other_texts_are_named_in_the_reason() -> None:
    now = of_length(2.44, text="text-2", target="target-2")
    verdict = judged(now, 0.02, margin=0.3)
    assert verdict.regime == "sampled"
    assert verdict.eroded
    assert verdict.reason.endswith("(length 2.5000 at commit 1a2b3c4d5, on other texts)")


@pytest.mark.parametrize(
    ("metric", "before", "now"), [("acceptance_length", 3.0, 2.97), ("acceptance_rate", 0.5, 0.495)]
)
def test_what_decided_is_what_eroded(metric: str, before: float, now: float) -> None:
    """In the same contexts a target that changed has no luck with its texts."""
    estimate = Estimate(
        name="in the same contexts", before=before, now=now, drop=0.01, interval=(0.0, 0.02)
    )
    other_texts = of_length(2.0, text="text-2", target="target-2")
    verdict = dataclasses.replace(
        judge_records(other_texts, BEFORE, margin=0.5),
        metric=metric,
        regime="target changed",
        estimate=estimate,
    )
    erosion = erosion_of(verdict, other_texts.as_measured(), BEFORE)
    assert erosion is not None
    ratio = 2.97 / 3.0 if metric == "acceptance_length" else (1 + 3 * 0.495) / (1 + 3 * 0.5)
    assert erosion.drop == pytest.approx(1 - 2.44 * ratio / 2.5)
    assert erosion.same_texts


def test_a_run_of_one_of_several_seeds_is_compared_by_its_change_on_that_seed() -> None:
    """Texts of another seed are longer or shorter by themselves; that is no erosion."""
    lucky, unlucky = of_length(2.6), of_length(2.2, text="text-2")
    stored = record(repeats=2, counts=lucky.counts, again=(unlucky.counts,))
    now = of_length(2.6)
    before = msgspec.structs.replace(stored, replaced=(stored.as_replaced(COMMIT),))
    assert judged(now, 0.001, before).erosion is None
    second = dataclasses.replace(
        now.as_measured(), runs=unlucky.as_measured().runs, seed=unlucky.seed
    )
    verdict = judge_records(second, before, margin=0.005)
    assert verdict.outcome == "pass"
    assert judge_erosion(verdict, erosion_of(verdict, second, before), 0.001) == verdict
