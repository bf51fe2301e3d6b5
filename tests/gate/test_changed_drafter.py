"""Verdicts where the drafter's weights changed and the texts did not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.records import record, steady_counts

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.judge import judge
from pytest_specdec.gate.verdict import Verdict
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.measured import MeasuredCase

MARGIN = 0.01
PROMPTS = 24


def fallen(
    drop: float, prompts: int = PROMPTS, *, first: int | None = None, jitter: float = 0.0
) -> Counts:
    """Counts whose acceptance length fell by a share; in the `first` prompts alone where given, and
    with `jitter` in each prompt by a little more or less, as near-ties flip.
    """
    before = steady_counts(prompts)
    factor = 1 - drop * before.acceptance_length / before.expected_accepted
    if first is None:
        noise = np.random.default_rng(2).normal(size=(prompts, 1))
        accepted = before.accepted * (factor + jitter * (noise - noise.mean()))
        return dataclasses.replace(before, accepted=accepted)
    accepted = before.accepted.copy()
    share = before.accepted.sum() / before.accepted[:first].sum()
    accepted[:first] *= 1 - (1 - factor) * share
    return dataclasses.replace(before, accepted=accepted)


def measured(
    counts: Counts,
    *,
    drafter: str = "drafter-1",
    temperature: float = 1.0,
    smoothed: Counts | None = None,
    smoothing: float | None = None,
) -> MeasuredCase:
    case = record(counts).as_measured()
    conditions = type(case.conditions)(
        **{
            **{name: getattr(case.conditions, name) for name in case.conditions.__struct_fields__},
            "temperature": temperature,
            "rule": "greedy" if temperature == 0 else "rejection",
        }
    )
    (run,) = case.runs
    return dataclasses.replace(
        case,
        conditions=conditions,
        fingerprints=Fingerprints(target="target-1", drafter=drafter),
        runs=(dataclasses.replace(run, smoothed=smoothed),),
        smoothing=smoothing,
    )


def verdict(now: Counts, before: Counts | None = None) -> Verdict:
    return judge(
        measured(now, drafter="drafter-2"),
        measured(steady_counts(PROMPTS) if before is None else before),
        margin=MARGIN,
    )


@pytest.mark.parametrize(
    ("drop", "outcome"),
    [(0.0, "pass"), (0.009, "pass"), (0.012, "regressed"), (-0.009, "pass"), (-0.012, "improved")],
)
def test_the_margin_decides_where_all_prompts_move_alike(drop: float, outcome: str) -> None:
    found = verdict(fallen(drop))
    assert (found.outcome, found.regime) == (outcome, "drafter changed")
    assert found.drop == pytest.approx(drop)
    assert found.estimate is None


def test_a_drop_in_one_prompt_alone_is_no_regression_of_others_like_it() -> None:
    found = verdict(fallen(0.012, first=1))
    assert found.outcome == "inconclusive"
    assert found.drop == pytest.approx(0.012)
    assert "prompts would settle it" in found.reason


def test_a_drop_in_half_of_the_prompts_is_a_regression() -> None:
    assert verdict(fallen(0.05, first=PROMPTS // 2)).outcome == "regressed"


def greedy(exact: float, smooth: float, *, stored: bool = True, jitter: float = 0.1) -> Verdict:
    """Exact counts move by `jitter` in each prompt, smoothed ones in all alike."""
    before = steady_counts(PROMPTS)
    return judge(
        measured(
            fallen(exact, jitter=jitter),
            drafter="drafter-2",
            temperature=0,
            smoothed=fallen(smooth),
            smoothing=0.1,
        ),
        measured(
            before,
            temperature=0,
            smoothed=before if stored else None,
            smoothing=0.1 if stored else None,
        ),
        margin=MARGIN,
    )


@pytest.mark.parametrize(
    ("exact", "smooth", "outcome"),
    [
        (0.02, 0.001, "pass"),
        (0.001, 0.02, "regressed"),
        (-0.02, 0.0, "pass"),
        (0.0, -0.02, "improved"),
    ],
)
def test_smoothed_counts_decide_at_temperature_0(exact: float, smooth: float, outcome: str) -> None:
    found = greedy(exact, smooth)
    assert (found.outcome, found.regime) == (outcome, "greedy drafter changed")
    assert found.drop == pytest.approx(exact)
    assert found.estimate is not None
    assert found.estimate.drop == pytest.approx(smooth)
    assert found.estimate.name == "smoothed at temperature 0.1"


@pytest.mark.parametrize(
    ("exact", "smooth", "outcome", "words"),
    [
        pytest.param(0.0, 0.02, "pass", "less confident", id="halved-logits"),
        pytest.param(0.0, -0.02, "pass", "more confident", id="doubled-logits"),
        pytest.param(0.05, 0.005, "regressed", "near-ties explain", id="worse-and-doubled"),
        pytest.param(0.05, -0.02, "regressed", "near-ties explain", id="worse-and-much-sharper"),
    ],
)
def test_exact_counts_overrule_smoothed_ones_where_their_bounds_leave_no_doubt(
    exact: float, smooth: float, outcome: str, words: str
) -> None:
    found = greedy(exact, smooth, jitter=0.005)
    assert (found.outcome, found.regime) == (outcome, "greedy drafter changed")
    assert found.estimate is None
    assert words in found.reason


def test_an_exact_drop_that_near_ties_explain_does_not_overrule_smoothed_counts() -> None:
    found = greedy(0.035, 0.005, jitter=0.005)
    assert (found.outcome, found.regime) == ("pass", "greedy drafter changed")
    assert found.drop == pytest.approx(0.035)
    assert found.estimate is not None


def test_exact_counts_decide_where_the_baseline_holds_no_smoothed_ones() -> None:
    found = greedy(0.02, 0.0, stored=False, jitter=0.0)
    assert found.outcome == "regressed"
    assert found.estimate is None
    assert "holds no smoothed counts" in found.reason


@pytest.mark.parametrize(("edited", "outcome"), [(0.0, "pass"), (0.02, "error")])
def test_smoothed_counts_of_the_same_pair_are_those_of_the_record(
    edited: float, outcome: str
) -> None:
    counts = steady_counts(PROMPTS)
    now, before = (
        measured(counts, temperature=0, smoothed=smoothed, smoothing=0.1)
        for smoothed in (counts, fallen(edited))
    )
    found = judge(now, before, margin=MARGIN)
    assert found.outcome == outcome
    assert ("smoothed counts are not those of its pair" in found.reason) == (outcome == "error")


def test_code_that_moves_exact_and_smoothed_counts_is_no_fault_of_the_record() -> None:
    before = steady_counts(PROMPTS)
    now = measured(fallen(0.02), temperature=0, smoothed=fallen(0.005), smoothing=0.1)
    found = judge(
        now, measured(before, temperature=0, smoothed=before, smoothing=0.1), margin=MARGIN
    )
    assert (found.outcome, found.regime) == ("regressed", "same weights")


def test_counts_smoothed_at_another_temperature_do_not_decide() -> None:
    before = steady_counts(PROMPTS)
    old = measured(before, temperature=0, smoothed=before, smoothing=0.2)
    new = measured(before, drafter="drafter-2", temperature=0, smoothed=fallen(0.05), smoothing=0.1)
    found = judge(new, old, margin=MARGIN)
    assert found.outcome == "pass"
    assert found.estimate is None


def test_the_smallest_detectable_drop_fails() -> None:
    rng = np.random.default_rng(0)
    before = steady_counts(PROMPTS)
    jitter = 1 + 0.02 * rng.normal(size=(PROMPTS, 1))
    noisy = dataclasses.replace(before, accepted=before.accepted * jitter)
    quiet = verdict(noisy)
    assert quiet.smallest_detectable_drop is not None
    assert quiet.drop is not None
    lost = quiet.smallest_detectable_drop - quiet.drop
    share = lost * before.acceptance_length / noisy.expected_accepted
    worse = dataclasses.replace(noisy, accepted=noisy.accepted * (1 - share))
    assert verdict(worse).outcome == "regressed"


def test_an_engine_without_smoothed_counts_is_not_told_to_store_them() -> None:
    before = steady_counts(PROMPTS)
    found = judge(
        measured(fallen(0.02), drafter="drafter-2", temperature=0),
        measured(before, temperature=0),
        margin=MARGIN,
    )
    assert found.outcome == "regressed"
    assert "has no smoothed counts" in found.reason
    assert "--specdec-update" not in found.reason
