"""Verdicts in both regimes, and what must never be compared."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from helpers.judged import judge_records
from helpers.records import PROPERTY, case, counts, record, sampled_counts, scaled, steady_counts
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.comparability import changes, incomparable
from pytest_specdec.gate.verdict import Outcome, Verdict
from pytest_specdec.records.record import Record

BEFORE = steady_counts()
MARGIN = case().margin


def fallen(drop: float, of: Counts = BEFORE) -> Counts:
    """The same rounds with an acceptance length lower by the share `drop`."""
    return scaled(of, 1 - drop * of.acceptance_length / of.expected_accepted)


def verdict_on(now: Counts, changed: Mapping[str, Any] | None = None, **options: Any) -> Verdict:
    return judge_records(
        record(now, **(changed or {})), record(BEFORE), **{"margin": MARGIN, **options}
    )


def changed_drafter(now: Record) -> Record:
    return msgspec.structs.replace(
        now, fingerprints=msgspec.structs.replace(now.fingerprints, drafter="drafter-2")
    )


def deterministic(drop: float, *, new_drafter: bool = False, **options: Any) -> Verdict:
    now = record(fallen(drop))
    return judge_records(
        changed_drafter(now) if new_drafter else now,
        record(BEFORE),
        **{"margin": MARGIN, **options},
    )


def sampled(now: Counts, before: Counts, **options: Any) -> Verdict:
    """Judge counts of newly sampled texts."""
    return judge_records(
        record(now, text="text-2"), record(before), **{"margin": MARGIN, **options}
    )


# The same texts: nothing is random.


def test_identical_records_pass_unchanged() -> None:
    verdict = deterministic(0.0)
    assert (verdict.outcome, verdict.reason, verdict.regime) == (
        "pass",
        "unchanged",
        "same weights",
    )
    assert verdict.drop == 0.0
    assert verdict.p_value is None


@pytest.mark.parametrize(
    ("drop", "new_drafter", "outcome"),
    [
        (5e-5, False, "pass"),
        (2e-4, False, "regressed"),
        (2e-4, True, "pass"),
        (0.004, True, "pass"),
        (0.004, False, "regressed"),
        (0.006, True, "regressed"),
        (-0.004, True, "pass"),
        (-0.006, True, "improved"),
        (-2e-4, False, "improved"),
    ],
)
def test_a_change_counts_from_the_tolerance_or_for_other_models_from_the_margin(
    drop: float, new_drafter: bool, outcome: Outcome
) -> None:
    verdict = deterministic(drop, new_drafter=new_drafter)
    assert verdict.outcome == outcome
    assert verdict.drop == pytest.approx(drop)
    assert verdict.limit == (MARGIN if new_drafter else 1e-4)


def test_a_drop_of_exactly_the_limit_fails() -> None:
    now = deterministic(0.006, new_drafter=True)
    assert now.drop is not None
    assert deterministic(0.006, new_drafter=True, margin=now.drop).outcome == "regressed"
    assert (
        deterministic(0.006, new_drafter=True, margin=math.nextafter(now.drop, 1)).outcome == "pass"
    )


@pytest.mark.parametrize(
    ("dtype", "outcome"), [("float32", "regressed"), ("bfloat16", "pass"), ("float16", "pass")]
)
def test_narrow_number_formats_are_given_more_tolerance(dtype: str, outcome: Outcome) -> None:
    environment = msgspec.structs.replace(record().environment, dtype=dtype)
    verdict = judge_records(
        record(fallen(5e-4), environment=environment),
        record(environment=environment),
        margin=MARGIN,
    )
    assert verdict.outcome == outcome


def test_another_environment_is_judged_by_the_margin_and_named() -> None:
    environment = msgspec.structs.replace(record().environment, device="cuda")
    verdict = judge_records(record(fallen(0.003), environment=environment), record(), margin=MARGIN)
    assert verdict.outcome == "pass"
    assert verdict.changed == ("environment (device: cpu -> cuda)",)


def test_a_margin_of_zero_still_leaves_the_tolerance() -> None:
    assert deterministic(5e-5, new_drafter=True, margin=0.0).outcome == "pass"
    assert deterministic(2e-4, new_drafter=True, margin=0.0).outcome == "regressed"


def test_drops_are_relative_to_the_metric() -> None:
    """Losing 1 % of the length is losing more of the accepted tokens, which are fewer."""
    by_length, by_rate = (
        deterministic(0.01, metric=metric) for metric in ("acceptance_length", "acceptance_rate")
    )
    assert by_length.drop == pytest.approx(0.01)
    assert by_rate.drop == pytest.approx(0.01 * BEFORE.acceptance_length / BEFORE.expected_accepted)
    assert by_rate.before == pytest.approx(BEFORE.acceptance_rate)
    assert by_rate.now == pytest.approx(fallen(0.01).acceptance_rate)


def test_what_changed_is_named_with_both_fingerprints() -> None:
    fingerprints = msgspec.structs.replace(
        record().fingerprints, target="target-2", drafter="drafter-2"
    )
    now = record(fingerprints=fingerprints).as_measured()
    assert changes(now, record().as_measured()) == (
        "target weights or configuration (target-1 -> target-2)",
        "drafter weights or configuration (drafter-1 -> drafter-2)",
    )


@given(st.floats(-0.2, 0.2), st.booleans())
@PROPERTY
def test_a_larger_drop_never_has_a_better_verdict(drop: float, new_drafter: bool) -> None:
    order = ("improved", "pass", "regressed")
    smaller, larger = (
        deterministic(size, new_drafter=new_drafter).outcome for size in (drop, drop + 0.01)
    )
    assert order.index(smaller) <= order.index(larger)


# What must never be compared.


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"definition": "acceptance/2"}, "definition"),
        ({"depth": 1}, "depth"),
        ({"rule": "greedy"}, "rule"),
        ({"temperature": 0.5}, "temperature"),
        ({"tokenizer": "other"}, "tokenizer"),
        ({"template": "chat"}, "template"),
        ({"new_tokens": 65}, "new_tokens"),
        ({"drafter": "mtp"}, "drafter"),
        ({"engine": "decode"}, "engine"),
        ({"top_k": 50}, "top_k"),
        ({"top_p": 0.9}, "top_p"),
        ({"judged": "41:297:2"}, "judged"),
    ],
)
def test_records_of_other_conditions_are_an_error(changed: dict[str, Any], word: str) -> None:
    verdict = verdict_on(BEFORE, changed)
    assert (verdict.outcome, verdict.pair) == ("error", None)
    assert word in verdict.reason
    assert repr(next(iter(changed.values()))) in verdict.reason


def test_another_k_is_an_error() -> None:
    verdict = verdict_on(steady_counts(shares=(0.75, 0.5)))
    assert verdict.outcome == "error"
    assert "k was 3 in the baseline and is 2" in verdict.reason


def test_every_difference_is_listed() -> None:
    stored = record().as_measured()
    assert len(incomparable(record(rule="greedy", temperature=0.0).as_measured(), stored)) == 2
    assert incomparable(stored, stored) == []


@pytest.mark.parametrize(
    ("rows", "subset", "outcome"),
    [
        (range(12), False, "pass"),
        (range(11), False, "error"),
        (range(11), True, "pass"),
        (range(12), True, "pass"),
    ],
)
def test_fewer_prompts_are_judged_only_where_fewer_were_asked_for(
    rows: range, subset: bool, outcome: Outcome
) -> None:
    assert verdict_on(BEFORE.select(list(rows)), subset=subset).outcome == outcome


@pytest.mark.parametrize("subset", [False, True])
def test_new_prompts_are_an_error_even_in_a_subset(subset: bool) -> None:
    now = dataclasses.replace(BEFORE, prompts=("other", *BEFORE.prompts[1:]))
    verdict = verdict_on(now, subset=subset)
    assert (verdict.outcome, verdict.reason) == ("error", "the prompt set changed: 1 new, 1 gone")


def test_more_prompts_than_the_baselines_are_reported_and_not_judged() -> None:
    before = steady_counts(10)
    verdict = judge_records(record(steady_counts(12)), record(before), margin=0.01, subset=True)
    assert (verdict.outcome, verdict.reason) == (
        "pass",
        "unchanged; 2 of 12 prompts have no baseline and were not judged",
    )
    assert verdict.pair is not None
    assert verdict.pair.prompts == 10
    worse = steady_counts(12)
    worse.accepted[0] *= 0.5
    assert (
        judge_records(record(worse), record(before), margin=0.01, subset=True).outcome
        == "regressed"
    )
    worse.accepted[0] *= 2
    worse.accepted[11] *= 0.5
    assert judge_records(record(worse), record(before), margin=0.01, subset=True).outcome == "pass"
    assert judge_records(record(worse), record(before), margin=0.01).outcome == "error"


@given(
    st.lists(st.sampled_from([0.5, 0.9, 1.0, 1.1]), min_size=12, max_size=12), st.integers(2, 11)
)
@PROPERTY
def test_prompts_without_a_baseline_change_nothing_but_the_reason(
    factors: list[float], known: int
) -> None:
    now = dataclasses.replace(BEFORE, accepted=BEFORE.accepted * np.array(factors)[:, None])
    before = record(BEFORE.select(list(range(known))))
    some = judge_records(record(now.select(list(range(known)))), before, margin=MARGIN)
    more = judge_records(record(now), before, margin=MARGIN, subset=True)
    rest = f"; {12 - known} of 12 prompts have no baseline and were not judged"
    assert more == dataclasses.replace(some, reason=some.reason + rest)


@pytest.mark.parametrize("text", ["text-1", "text-2"])
def test_new_prompts_are_left_out_of_every_run_and_in_either_regime(text: str) -> None:
    before, now = steady_counts(20), steady_counts(24)
    repeated = msgspec.structs.replace(
        record(now, text=text), repeats=2, again=(record(now, text=f"{text}-again").counts,)
    )
    verdict = judge_records(repeated, record(before), margin=MARGIN, subset=True)
    assert verdict.passes()
    assert verdict.pair is not None
    assert verdict.pair.now.prompts == verdict.pair.before.prompts == before.prompts
    assert verdict.reason.endswith("; 4 of 24 prompts have no baseline and were not judged")


def test_a_set_that_also_lost_prompts_is_another_set() -> None:
    now = record(BEFORE.select(list(range(1, 12))))
    verdict = judge_records(now, record(BEFORE.select(list(range(10)))), margin=MARGIN, subset=True)
    assert (verdict.outcome, verdict.reason) == ("error", "the prompt set changed: 2 new, 1 gone")


def test_a_subset_is_judged_on_its_own_prompts() -> None:
    now = steady_counts()
    now.accepted[0] *= 0.5
    assert verdict_on(now.select([0, 1]), subset=True).outcome == "regressed"
    assert verdict_on(now.select([1, 2]), subset=True).reason == "unchanged"


def test_a_dead_drafter_is_no_baseline() -> None:
    verdict = judge_records(record(BEFORE), record(scaled(BEFORE, 0.0)), margin=MARGIN)
    assert verdict.outcome == "error"
    assert (
        "the stored record is not a valid baseline: no draft token was ever accepted"
        in verdict.reason
    )


def test_a_drafter_that_died_is_a_regression() -> None:
    assert verdict_on(scaled(BEFORE, 0.0)).outcome == "regressed"


def test_without_a_round_there_is_nothing_to_judge() -> None:
    empty = counts([0] * 12, [[0, 0, 0]] * 12, categories=BEFORE.categories)
    verdict = verdict_on(empty)
    assert (verdict.outcome, verdict.reason) == (
        "error",
        "no rounds to judge; use longer texts or a smaller k",
    )


# Newly sampled texts: a test decides.


def test_a_large_drop_on_new_texts_regresses_within_alpha() -> None:
    rng = np.random.default_rng(1)
    skill = rng.beta(6, 2, 24)
    verdict = sampled(sampled_counts(rng, skill * 0.4), sampled_counts(rng, skill), alpha=0.01)
    assert (verdict.outcome, verdict.regime) == ("regressed", "sampled")
    assert verdict.p_value is not None
    assert verdict.p_value <= 0.01


def test_a_certain_drop_below_the_margin_does_not_regress() -> None:
    """Every prompt loses the same, so chance is excluded; the loss is merely small."""
    verdict = sampled(fallen(0.004), BEFORE, alpha=0.05)
    assert verdict.p_value is not None
    assert verdict.p_value <= 0.05
    assert verdict.outcome == "pass"


def test_a_gain_on_new_texts_never_fails() -> None:
    verdict = sampled(fallen(-0.02), BEFORE, alpha=0.05)
    assert verdict.passes()
    assert verdict.drop == pytest.approx(-0.02)


def test_noise_wider_than_the_margin_is_inconclusive_and_says_what_would_settle_it() -> None:
    rng = np.random.default_rng(3)
    skill = rng.beta(6, 2, 24)
    verdict = sampled(sampled_counts(rng, skill), sampled_counts(rng, skill))
    assert verdict.outcome == "inconclusive"
    assert verdict.smallest_detectable_drop is not None
    assert verdict.smallest_detectable_drop > MARGIN
    needed = 24 * (verdict.smallest_detectable_drop / MARGIN) ** 2
    settle = re.search(r"about (\d+) prompts would settle it", verdict.reason)
    assert settle is not None
    assert int(settle.group(1)) == pytest.approx(needed, rel=0.001)


def test_noise_narrower_than_the_margin_passes() -> None:
    rng = np.random.default_rng(3)
    skill = rng.beta(6, 2, 24)
    verdict = sampled(sampled_counts(rng, skill), sampled_counts(rng, skill), margin=0.5)
    assert verdict.outcome == "pass"
    assert verdict.smallest_detectable_drop is not None
    assert verdict.smallest_detectable_drop > 0.5, (
        "a drop of just the margin is observed as less every other time"
    )


def test_without_a_margin_noise_asks_for_one() -> None:
    rng = np.random.default_rng(5)
    skill = rng.beta(6, 2, 24)
    verdict = sampled(
        sampled_counts(rng, skill), sampled_counts(rng, skill), margin=0.0, alpha=0.01
    )
    assert "a margin above 0 would settle it" in verdict.reason


@pytest.mark.parametrize(
    ("alpha", "gates", "needed"), [(0.01, 1, 7), (0.01, 4, 9), (0.05, 1, 5), (0.001, 1, 10)]
)
def test_too_few_prompts_is_an_error_that_names_the_number(
    alpha: float, gates: int, needed: int
) -> None:
    few, enough = (
        sampled(
            fallen(0.2, steady_counts(prompts)), steady_counts(prompts), alpha=alpha, gates=gates
        )
        for prompts in (needed - 1, needed)
    )
    assert few.outcome == "error"
    assert (
        few.reason
        == f"{needed - 1} prompts can never fail this gate; use at least {needed} prompts"
    )
    assert enough.outcome == "regressed"


def test_more_gates_share_one_alpha() -> None:
    """The same drop is beyond chance for one gate and not for a hundred."""
    rng = np.random.default_rng(11)
    skill = rng.beta(6, 2, 24)
    now, before = sampled_counts(rng, skill * 0.85), sampled_counts(rng, skill)
    alone, among_many = (sampled(now, before, alpha=0.05, gates=gates) for gates in (1, 100))
    assert alone.outcome == "regressed"
    assert among_many.outcome == "inconclusive"
    assert alone.p_value is not None
    assert 0.05 / 100 < alone.p_value <= 0.05


def test_judging_twice_gives_the_same_verdict() -> None:
    rng = np.random.default_rng(6)
    skill = rng.beta(6, 2, 24)
    now, before = sampled_counts(rng, skill), sampled_counts(rng, skill)
    assert sampled(now, before) == sampled(now, before)


def test_false_alarms_stay_at_alpha() -> None:
    """300 sessions without any change, 24 prompts each, clustered and heavy-tailed; a margin of 0
    leaves all to the test.
    """
    rng, alpha, sessions, alarms = np.random.default_rng(7), 0.05, 300, 0
    for _ in range(sessions):
        skill = rng.beta(3, 1.5, 24)
        verdict = sampled(
            sampled_counts(rng, skill), sampled_counts(rng, skill), margin=0.0, alpha=alpha
        )
        assert verdict.outcome in ("pass", "inconclusive", "regressed", "improved")
        alarms += verdict.outcome == "regressed"
    assert alarms <= stats.binom.ppf(0.999, sessions, alpha)
    assert alarms >= stats.binom.ppf(0.001, sessions, alpha), "the test would be without power"


@pytest.mark.parametrize(
    ("outcome", "fail", "warn"),
    [
        ("pass", True, True),
        ("improved", True, True),
        ("inconclusive", False, True),
        ("regressed", False, False),
        ("error", False, False),
    ],
)
def test_what_passes_depends_on_how_doubt_is_taken(
    outcome: Outcome, fail: bool, warn: bool
) -> None:
    verdict = Verdict(outcome=outcome, metric="acceptance_length", reason="reason")
    assert (verdict.passes(), verdict.passes("fail"), verdict.passes("warn")) == (fail, fail, warn)


def test_a_gain_on_new_texts_improves_and_does_not_merely_pass() -> None:
    before = steady_counts(24)
    assert (
        judge_records(record(scaled(before, 1.2), text="new"), record(before), margin=0.005).outcome
        == "improved"
    )


def elsewhere(of: Counts) -> Record:
    """The record of another machine on the same texts."""
    measured = record(of)
    return msgspec.structs.replace(
        measured, environment=msgspec.structs.replace(measured.environment, device="other")
    )


def test_in_another_environment_a_clear_drop_regresses() -> None:
    verdict = judge_records(
        elsewhere(scaled(steady_counts(24), 0.9)), record(steady_counts(24)), margin=0.005
    )
    assert (verdict.outcome, verdict.regime) == ("regressed", "another environment")
    assert verdict.p_value is not None
    assert verdict.p_value <= 0.01


def test_in_another_environment_flipped_near_ties_are_no_regression() -> None:
    before, rng = steady_counts(24), np.random.default_rng(3)
    flips = dataclasses.replace(
        before, accepted=before.accepted * rng.normal(0.98, 0.2, (24, 1)).clip(0, 1.3)
    )
    verdict = judge_records(elsewhere(flips), record(before), margin=0.005)
    assert verdict.drop is not None
    assert verdict.drop >= 0.005
    assert verdict.outcome == "inconclusive"


def test_in_another_environment_a_small_drop_passes() -> None:
    assert (
        judge_records(
            elsewhere(scaled(steady_counts(24), 0.999)), record(steady_counts(24)), margin=0.005
        ).outcome
        == "pass"
    )


# The acceptance rate where rounds draft different numbers of tokens.


def drafting(drafts: float) -> Counts:
    """The same rounds and accepted tokens, each round having drafted so many."""
    share = np.clip(drafts - np.arange(BEFORE.k), 0, 1)
    accepted = BEFORE.accepted * 0
    accepted[:, 0] = BEFORE.rounds / 2
    return dataclasses.replace(BEFORE, drafted=BEFORE.rounds[:, None] * share, accepted=accepted)


def with_drafts(of: Counts, **changes: Any) -> Record:
    stored = record(of, **changes)
    rows = zip(stored.counts.items(), of.drafted.tolist(), strict=True)
    return msgspec.structs.replace(
        stored,
        counts={
            key: msgspec.structs.replace(row, drafted=tuple(drafted))
            for (key, row), drafted in rows
        },
    )


def test_a_rate_that_falls_with_idle_drafts_regresses() -> None:
    before, now = with_drafts(drafting(1)), with_drafts(drafting(2))
    verdict = judge_records(now, before, metric="acceptance_rate", margin=MARGIN)
    assert verdict.outcome == "regressed"
    assert verdict.drop == pytest.approx(0.5)
    assert verdict.interval is not None
    assert verdict.interval[0] <= 0.5 <= verdict.interval[1]
    assert judge_records(now, before, margin=MARGIN).outcome == "pass"


def test_on_other_texts_a_rate_of_varying_drafts_is_not_judged() -> None:
    before, now = with_drafts(drafting(1)), with_drafts(drafting(2), text="text-2")
    verdict = judge_records(now, before, metric="acceptance_rate", margin=MARGIN)
    assert verdict.outcome == "error"
    assert verdict.reason.endswith("compare acceptance_length")


def test_texts_that_nobody_knows_are_never_the_same() -> None:
    unknown = msgspec.structs.replace(
        record(BEFORE),
        counts={
            key: msgspec.structs.replace(row, text="") for key, row in record(BEFORE).counts.items()
        },
    )
    assert judge_records(unknown, unknown, margin=MARGIN).regime == "sampled"


@pytest.mark.parametrize(("dtype", "outcome"), [("bfloat16", "pass"), ("float32", "regressed")])
def test_in_half_precision_a_subset_may_round_otherwise(dtype: str, outcome: Outcome) -> None:
    before, fallen_a_bit = record(BEFORE, dtype=dtype), record(fallen(0.003), dtype=dtype)
    now = fallen_a_bit.as_measured().only(list(fallen_a_bit.counts)[:8])
    assert judge_records(now, before, margin=MARGIN, subset=True).outcome == outcome
    assert judge_records(fallen_a_bit, before, margin=MARGIN).outcome == "regressed"
