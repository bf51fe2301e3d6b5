"""The definitions of every metric, on counts small enough to check by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from helpers.records import PROPERTY, counts, steady_counts
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pytest_specdec.acceptance.counts import Counts

# Ten rounds of the first prompt accepted 8 times one token or more and 4 times both; thirty of the
# second 12 and 3.
BY_HAND = counts([10, 30], [[8, 4], [12, 3]], categories=["prose", "code"])


@st.composite
def any_counts(draw: st.DrawFn, k: int = 3) -> Counts:
    rounds = draw(st.lists(st.integers(1, 50), min_size=1, max_size=6))
    accepted = [
        sorted(draw(st.lists(st.integers(0, number), min_size=k, max_size=k)), reverse=True)
        for number in rounds
    ]
    names = draw(
        st.lists(
            st.sampled_from("abcdefgh"), min_size=len(rounds), max_size=len(rounds), unique=True
        )
    )
    return counts(rounds, accepted, prompts=names)


def as_rows(of: Counts) -> dict[str, list[float]]:
    return {
        key: [of.rounds[row], *of.drafted[row], *of.accepted[row]]
        for row, key in enumerate(of.prompts)
    }


def test_every_metric_follows_its_definition() -> None:
    assert BY_HAND.k == 2
    assert BY_HAND.total_rounds == 40
    assert BY_HAND.acceptance_rate == pytest.approx(27 / 80)
    assert BY_HAND.expected_accepted == pytest.approx(27 / 40)
    assert BY_HAND.acceptance_length == pytest.approx(1 + 27 / 40)
    assert_allclose(BY_HAND.survival, [20 / 40, 7 / 40])
    assert_allclose(BY_HAND.conditional, [20 / 40, 7 / 20])
    assert BY_HAND.efficiency == pytest.approx((27 / 40) / 2)


def test_pooled_length_weighs_rounds_and_macro_length_weighs_prompts() -> None:
    assert BY_HAND.acceptance_length == pytest.approx(1 + (12 + 15) / (10 + 30))
    assert BY_HAND.macro_acceptance_length == pytest.approx(((1 + 12 / 10) + (1 + 15 / 30)) / 2)


def test_a_prompt_without_rounds_is_no_part_of_the_macro_mean() -> None:
    assert counts([10, 0], [[8], [0]]).macro_acceptance_length == pytest.approx(1.8)


@given(any_counts())
@PROPERTY
def test_metrics_agree_with_each_other_at_a_fixed_k(of: Counts) -> None:
    assert of.acceptance_rate * of.k == pytest.approx(of.expected_accepted)
    assert of.survival.sum() == pytest.approx(of.expected_accepted)
    assert np.nan_to_num(np.cumprod(of.conditional)).sum() == pytest.approx(of.expected_accepted)
    assert of.efficiency == pytest.approx(of.acceptance_rate, nan_ok=True)


def test_survival_is_per_drafted_where_late_positions_are_drafted_less() -> None:
    clipped = counts([4], [[3, 1]], drafted=[[4, 2]])
    assert_allclose(clipped.survival, [3 / 4, 1 / 2])
    assert clipped.acceptance_rate == pytest.approx(4 / 6)
    assert clipped.expected_accepted == pytest.approx(4 / 4)


def test_conditional_is_nan_past_the_last_position_ever_reached() -> None:
    assert_allclose(counts([5], [[2, 0, 0]]).conditional, [0.4, 0.0, np.nan])


def test_survival_is_nan_where_nothing_was_drafted() -> None:
    assert_allclose(counts([2], [[1, 0]], drafted=[[2, 0]]).survival, [0.5, np.nan])


@pytest.mark.parametrize(
    "metric", ["acceptance_rate", "acceptance_length", "macro_acceptance_length", "efficiency"]
)
def test_without_a_round_there_is_no_metric(metric: str) -> None:
    assert math.isnan(getattr(counts([0], [[0]]), metric))


def test_categories_come_apart_in_order_of_appearance() -> None:
    mixed = counts([1, 2, 4], [[1], [1], [3]], categories=["prose", "code", "prose"])
    parts = mixed.by_category()
    assert list(parts) == ["prose", "code"]
    assert parts["prose"].prompts == ("p0", "p2")
    assert parts["prose"].expected_accepted == pytest.approx(4 / 5)
    assert parts["code"].expected_accepted == pytest.approx(1 / 2)


def test_select_keeps_the_order_it_is_given() -> None:
    chosen = BY_HAND.select([1, 0])
    assert chosen.prompts == ("p1", "p0")
    assert chosen.rounds.tolist() == [30, 10]
    assert chosen.accepted.tolist() == [[12, 3], [8, 4]]


def test_merge_adds_shared_prompts_and_appends_new_ones() -> None:
    other = counts([5, 7], [[4, 1], [6, 5]], prompts=["p1", "p9"], categories=["code", "chat"])
    merged = BY_HAND.merge(other)
    assert as_rows(merged) == {
        "p0": [10, 10, 10, 8, 4],
        "p1": [35, 35, 35, 16, 4],
        "p9": [7, 7, 7, 6, 5],
    }
    assert merged.categories == ("prose", "code", "chat")


def test_merge_leaves_both_sides_alone() -> None:
    first = counts([10], [[8]])
    other = counts([10], [[8]])
    first.merge(other)
    assert first.rounds.tolist() == other.rounds.tolist() == [10]


@given(any_counts(), any_counts())
@PROPERTY
def test_merge_commutes(first: Counts, second: Counts) -> None:
    assert as_rows(first.merge(second)) == as_rows(second.merge(first))


@given(any_counts(), any_counts(), any_counts())
@PROPERTY
def test_merge_is_associative(first: Counts, second: Counts, third: Counts) -> None:
    assert as_rows(first.merge(second).merge(third)) == as_rows(first.merge(second.merge(third)))


def test_counts_of_another_k_do_not_merge() -> None:
    with pytest.raises(ValueError, match="k=2 and k=1"):
        BY_HAND.merge(counts([1], [[1]]))


@pytest.mark.parametrize(
    "change",
    [
        {"categories": ("prose",)},
        {"rounds": np.ones(3)},
        {"drafted": np.ones((3, 2))},
        {"accepted": np.ones((2, 3))},
        {"drafted": np.ones(2), "accepted": np.ones(2)},
    ],
    ids=["categories", "rounds", "drafted", "accepted", "flat"],
)
def test_shapes_that_do_not_go_together_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="prompts"):
        dataclasses.replace(BY_HAND, **change)


def test_the_standard_error_is_that_of_resampled_prompts() -> None:
    rng = np.random.default_rng(2)
    rounds = rng.integers(20, 60, 60)
    accepted = rng.binomial(rounds, rng.beta(3, 2, 60))
    whole = counts(rounds.tolist(), accepted[:, None].tolist())
    resampled = [rng.integers(60, size=60) for _ in range(4000)]
    lengths = [1 + accepted[rows].sum() / rounds[rows].sum() for rows in resampled]
    assert whole.standard_error == pytest.approx(np.std(lengths), rel=0.1)
    assert whole.residuals.sum() == pytest.approx(0)
    assert np.isnan(whole.select([0]).standard_error)


def test_conditional_is_a_probability_where_rounds_draft_different_numbers() -> None:
    uneven = Counts(
        ("a", "b"),
        ("all",) * 2,
        np.full(2, 10.0),
        np.array([[10.0, 0], [10, 10]]),
        np.array([[0.0, 0], [10, 10]]),
    )
    assert uneven.conditional.tolist() == [0.5, 1.0]


def test_errors_of_positions_are_those_of_resampled_prompts() -> None:
    """Prompts of unlike skill, and rounds that draft different numbers of tokens."""
    rng = np.random.default_rng(7)
    skill = rng.beta(6, 3, size=(400, 1))
    drafted = np.stack([rng.integers(20, 60, 400), rng.integers(5, 20, 400)], axis=1).astype(float)
    first = rng.binomial(drafted[:, :1].astype(int), skill)
    second = rng.binomial(drafted[:, 1:].astype(int), skill**2)
    whole = Counts(
        prompts=tuple(map(str, range(400))),
        categories=("all",) * 400,
        rounds=drafted[:, 0],
        drafted=drafted,
        accepted=np.concatenate([first, second], axis=1).astype(float),
    )
    samples = [whole.select(rng.integers(0, 400, 400).tolist()) for _ in range(600)]
    for name in ("survival", "conditional"):
        resampled = np.std([getattr(sample, name) for sample in samples], axis=0)
        assert getattr(whole, f"{name}_error") == pytest.approx(resampled, rel=0.12)


def test_errors_of_positions_are_unknown_where_there_is_nothing_to_spread() -> None:
    single = steady_counts(1)
    assert np.isnan(single.survival_error).all()
    never = steady_counts(4, shares=[0.5, 0.0, 0.0])
    assert never.survival_error.tolist() == [0.0, 0.0, 0.0]
    assert never.conditional_error[:2].tolist() == [0.0, 0.0]
    assert np.isnan(never.conditional_error[2])
