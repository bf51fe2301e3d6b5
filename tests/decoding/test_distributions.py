"""Distributions against transformers' own warpers: what temperature, top-k and top-p mean is theirs
to say.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding import distributions
from pytest_specdec.decoding.distributions import (
    below_the_best,
    draw,
    filtered,
    log_exponentials,
    log_scores,
    one_hot,
    probabilities,
    sample,
    target_scores,
)
from pytest_specdec.decoding.drafters.score_arrays import smoothed_scores

PROPERTY = settings(deadline=None, max_examples=200)
DRAWS = 200_000
P_FLOOR = 1e-6

samplings = st.builds(
    Sampling,
    st.sampled_from([1.0, 0.3, 0.7, 2.5]),
    st.one_of(st.just(0), st.integers(1, 45)),
    st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
)


@st.composite
def logits(draw_from: st.DrawFn) -> torch.Tensor:
    """Logits of any batch shape; coarse ones are full of ties, at the top and at every
    threshold.
    """
    shape = [*draw_from(st.lists(st.integers(1, 3), max_size=3)), draw_from(st.integers(1, 40))]
    generator = torch.Generator().manual_seed(draw_from(st.integers(0, 1 << 32)))
    values = (3 * torch.randn(shape, generator=generator)).clamp(-10, 10)
    if levels := draw_from(st.sampled_from([0, 1, 4])):
        values = (values * levels).round() / levels
    return values.to(draw_from(st.sampled_from([torch.float32, torch.bfloat16])))


def warped(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """The chain of warpers that `generate` would build, over float32 scores, as it passes them."""
    rows = scores.float().reshape(-1, scores.shape[-1])
    unused = torch.zeros(len(rows), 1, dtype=torch.long)
    rows = TemperatureLogitsWarper(sampling.temperature)(unused, rows)
    if sampling.top_k:
        rows = TopKLogitsWarper(sampling.top_k)(unused, rows)
    if sampling.top_p < 1:
        rows = TopPLogitsWarper(sampling.top_p)(unused, rows)
    return rows.reshape(scores.shape)


@PROPERTY
@given(logits(), samplings)
def test_the_distribution_is_what_transformers_warpers_leave(
    scores: torch.Tensor, sampling: Sampling
) -> None:
    before = scores.clone()
    expected = warped(scores, sampling)
    kept = filtered(scores, sampling)
    assert torch.equal(kept, expected)
    computed = probabilities(scores, sampling)
    assert computed.dtype == torch.float32
    torch.testing.assert_close(computed, expected.softmax(-1), rtol=1e-6, atol=0)
    torch.testing.assert_close(computed.sum(-1), torch.ones(scores.shape[:-1]))
    assert torch.equal(scores, before)


@pytest.mark.parametrize("top_p", [0.0, 1e-9, 0.25, 0.5, 0.75])
def test_thresholds_that_are_met_exactly_leave_what_transformers_leaves(top_p: float) -> None:
    """Four equal tokens: the sums of their probabilities are the very thresholds. Some token always
    stays.
    """
    sampling = Sampling(1.0, 0, top_p)
    kept = filtered(torch.zeros(2, 4), sampling)
    assert torch.equal(kept, warped(torch.zeros(2, 4), sampling))
    assert (kept > -torch.inf).sum(-1).tolist() == [max(round(4 * top_p), 1)] * 2


@PROPERTY
@given(logits(), samplings, st.integers(0, 1 << 32))
def test_log_scores_are_the_logarithm_of_the_distribution_at_each_token(
    scores: torch.Tensor, sampling: Sampling, seed: int
) -> None:
    tokens = torch.randint(
        0, scores.shape[-1], scores.shape[:-1], generator=torch.Generator().manual_seed(seed)
    )
    at_tokens = probabilities(scores, sampling).gather(-1, tokens[..., None])[..., 0]
    torch.testing.assert_close(
        log_scores(scores, tokens, sampling), at_tokens.log(), rtol=1e-5, atol=1e-5
    )


@PROPERTY
@given(logits(), st.integers(0, 45), st.floats(0.01, 1.0))
def test_at_temperature_zero_all_mass_is_on_the_first_largest_logit(
    scores: torch.Tensor, top_k: int, top_p: float
) -> None:
    sampling = Sampling(0.0, top_k, top_p)
    best = scores.argmax(-1)
    computed = probabilities(scores, sampling)
    assert computed.dtype == torch.float32
    assert torch.equal(computed, torch.nn.functional.one_hot(best, scores.shape[-1]).float())
    assert torch.equal(sample(scores, sampling, None), best)
    every = torch.arange(scores.shape[-1])
    by_token = torch.stack(
        [log_scores(scores, torch.full_like(best, token), sampling) for token in every.tolist()], -1
    )
    assert torch.equal(by_token, computed.log())


@PROPERTY
@given(logits(), samplings, st.integers(0, 1 << 32))
def test_a_choice_is_never_a_token_that_the_filters_left_out(
    scores: torch.Tensor, sampling: Sampling, seed: int
) -> None:
    chosen = sample(scores, sampling, torch.Generator().manual_seed(seed))
    assert chosen.shape == scores.shape[:-1]
    assert (log_scores(scores, chosen, sampling) > -torch.inf).all()


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(0.7), Sampling(2.0, 4), Sampling(1.0, 0, 0.8), Sampling(1.3, 5, 0.9)],
)
def test_choices_follow_the_distribution(sampling: Sampling) -> None:
    scores = torch.tensor([2.0, -1.0, 0.5, 0.5, 1.5, -3.0, 1.0])
    chosen = sample(scores.expand(DRAWS, -1), sampling, torch.Generator().manual_seed(3))
    assert goodness(chosen, probabilities(scores, sampling)) > P_FLOOR


def test_another_distribution_than_the_one_drawn_from_is_distinguished() -> None:
    """The test above can fail: a temperature 5 % off is seen."""
    scores = torch.tensor([2.0, -1.0, 0.5, 0.5, 1.5, -3.0, 1.0])
    chosen = sample(scores.expand(DRAWS, -1), Sampling(1.05), torch.Generator().manual_seed(3))
    assert goodness(chosen, probabilities(scores, Sampling())) < P_FLOOR


def test_draws_follow_distributions_of_any_mass_and_never_take_a_token_without() -> None:
    masses = torch.tensor([0.0, 2e-7, 3e-7, 0.0, 5e-7])
    assert (
        goodness(
            draw(masses.expand(DRAWS, -1), torch.Generator().manual_seed(5)), masses / masses.sum()
        )
        > P_FLOOR
    )


def test_each_row_draws_from_its_own_distribution_by_its_own_clocks() -> None:
    distributions = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    drawn = draw(distributions.expand(DRAWS, 2, 2), torch.Generator().manual_seed(6))
    assert drawn.shape == (DRAWS, 2)
    joint = torch.outer(distributions[0], distributions[1]).flatten()
    assert goodness(2 * drawn[:, 0] + drawn[:, 1], joint) > P_FLOOR


def test_seeds_decide_the_draw() -> None:
    scores = torch.zeros(50, 9)

    def chosen(seed: int) -> torch.Tensor:
        return sample(scores, Sampling(), torch.Generator().manual_seed(seed))

    assert torch.equal(chosen(1), chosen(1))
    assert not torch.equal(chosen(1), chosen(2))


def test_clocks_are_exponential_and_finite() -> None:
    clocks = log_exponentials((DRAWS,), torch.device("cpu"), torch.Generator().manual_seed(7))
    assert clocks.isfinite().all()
    assert stats.kstest(clocks.double().exp().numpy(), "expon").pvalue > P_FLOOR


def test_certain_distributions_hold_all_mass_on_their_token() -> None:
    assert one_hot(torch.tensor([[2, 0]]), 3).tolist() == [[[0, 0, 1], [1, 0, 0]]]


def goodness(drawn: torch.Tensor, probabilities: torch.Tensor) -> float:
    """p-value of Pearson's test; 0 where a token without mass was drawn."""
    counts = drawn.bincount(minlength=len(probabilities)).numpy()
    chances = probabilities.double().numpy()
    if counts[chances == 0].any():
        return 0.0
    held = chances > 0
    expected = chances[held] / chances.sum() * counts.sum()
    return float(stats.chisquare(counts[held], expected).pvalue)


@PROPERTY
@given(logits(), samplings, st.integers(0, 1 << 32))
def test_a_targets_scores_are_finite_outside_the_filters(
    scores: torch.Tensor, sampling: Sampling, seed: int
) -> None:
    """A token that the filters leave out has the weight that it has with them, over that of the
    kept tokens and its own.
    """
    tokens = torch.randint(
        0, scores.shape[-1], scores.shape[:-1], generator=torch.Generator().manual_seed(seed)
    )
    plain, finite = log_scores(scores, tokens, sampling), target_scores(scores, tokens, sampling)
    assert torch.equal(finite.outside, plain == -torch.inf)
    assert torch.equal(finite.log_p[~finite.outside], plain[~finite.outside])
    weights = (scores.double() / sampling.temperature).exp()
    kept = torch.where(filtered(scores, sampling) > -torch.inf, weights, 0.0).sum(-1)
    mass = weights.gather(-1, tokens[..., None])[..., 0]
    wanted = (mass / (kept + mass)).log()[finite.outside]
    torch.testing.assert_close(finite.log_p[finite.outside].double(), wanted, rtol=1e-4, atol=1e-4)


@PROPERTY
@given(logits(), samplings)
def test_bets_against_a_target_have_expectation_one(
    scores: torch.Tensor, sampling: Sampling
) -> None:
    p = probabilities(scores, sampling).double()
    total = torch.zeros(2, *scores.shape[:-1], dtype=torch.float64)
    for token in range(scores.shape[-1]):
        bets = target_scores(scores, torch.full(scores.shape[:-1], token), sampling).bets.double()
        total += torch.where(p[..., token] > 0, p[..., token] * bets.exp(), 0.0)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-4, atol=1e-4)


def test_a_token_that_no_filter_left_out_and_that_has_no_mass_stays_impossible() -> None:
    scores = torch.tensor([[0.0, 1.0, -torch.inf]])
    scored = target_scores(scores, torch.tensor([2]), Sampling(1.0, 2))
    assert scored.log_p.item() == -torch.inf
    assert scored.outside.all()
    assert scored.bets[:, 0].tolist() == [torch.inf, -torch.inf]


def test_below_the_best_spares_ties() -> None:
    scores = torch.tensor([[3.0, 2.9, 1.0]]).expand(3, -1)
    assert below_the_best(scores, torch.tensor([0, 1, 2])).tolist() == [False, False, True]


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0), Sampling(0.7, top_k=5), Sampling(1.0, top_p=0.8)], ids=str
)
def test_scores_in_parts_are_those_of_the_whole(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, of tokens inside the filters and outside."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 40, 1000, generator=generator) * 3
    tokens = torch.randint(0, 1000, (3, 40), generator=generator)

    def scored() -> list[torch.Tensor]:
        target = target_scores(logits, tokens, sampling)
        scores = [log_scores(logits, tokens, other) for other in (sampling, Sampling(0.0))]
        return [
            *(target.log_p, target.outside, target.bets),
            *scores,
            smoothed_scores(logits, tokens),
        ]

    whole = scored()
    monkeypatch.setattr(distributions, "_CACHED", 7000)
    assert all(map(torch.equal, whole, scored()))
    assert all(found.shape[-2:] == tokens.shape for found in whole)
