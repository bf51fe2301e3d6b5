"""Replay against transformers' own speculative decoding, on the embedded pair.

At temperature 0 every round of `generate` is replay's round: same start, same number accepted. At
temperature 1 the rounds that `generate` counts agree, position by position, with replay's exact
expectation given the emitted texts.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from helpers.embedded import UNUSED, Pair, generate
from helpers.tiers import exhaustive

from pytest_specdec.acceptance.renewal import AcceptanceField, expected_counts, sample_rounds
from pytest_specdec.cases.case import OWN_HEADS, Sampling, default_rule
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

MTP_K = 3


@pytest.fixture
def target(pair: Pair) -> LoadedModel:
    return pair.target


@pytest.fixture
def draft(pair: Pair) -> LoadedModel:
    return pair.draft


@pytest.fixture
def prompts(pair: Pair) -> list[list[int]]:
    return pair.prompts


def field_of(
    target: LoadedModel, draft: LoadedModel | None, texts: list[Text], k: int, temperature: float
) -> AcceptanceField:
    """The acceptance field; a draft model drafts before the prompt pass in transformers, one
    position earlier.
    """
    plan = DrafterPlan(draft or OWN_HEADS, 0 if draft else MTP_K, k)
    (scores,) = text_scores(target, [plan], texts, Sampling(temperature))
    field = scores.field(default_rule(temperature))
    return dataclasses.replace(field, starts=field.starts - 1) if draft else field


@pytest.mark.parametrize(
    ("k", "count"), [(4, 16), exhaustive(4, 32), exhaustive(1, 32), exhaustive(8, 32)]
)
def test_greedy_assisted_generation_is_replay_round_for_round(
    target, draft, prompts, k: int, count: int
) -> None:
    compare_greedy(target, draft, some(prompts, count), k)


@pytest.mark.parametrize("count", [16, exhaustive(32)])
def test_greedy_mtp_generation_is_replay_round_for_round(target, prompts, count: int) -> None:
    compare_greedy(target, None, some(prompts, count), MTP_K)


def some(prompts: list[list[int]], count: int) -> list[list[int]]:
    """16 or 32 prompts, of all categories."""
    return [*prompts[::5], *prompts[2::5]][:count]


def compare_greedy(
    target: LoadedModel, draft: LoadedModel | None, prompts: list[list[int]], k: int
) -> None:
    """All rounds of all texts, those clipped by the length limit included."""
    assert len(prompts) >= 16
    decoded = [generate(target, draft, prompt, k=k, new=64, sample=False) for prompt in prompts]
    field = field_of(target, draft, [text for text, _ in decoded], k, 0.0)
    replayed = sample_rounds(field, k, np.random.default_rng(0), end="clip")
    # With one token to go replay and assisted generation draft nothing; MTP drafts, and can accept
    # nothing.
    counted = [
        [(start, taken) for start, _, taken in rounds if start + 1 < len(text.ids)]
        for text, rounds in decoded
    ]
    assert all(UNUSED not in text.ids for text, _ in decoded)
    assert counted == replayed
    outcomes = {accepted for rounds in counted for _, accepted in rounds}
    assert {0, k} <= outcomes
    assert outcomes == set(range(k + 1)) or k > 4


@pytest.mark.parametrize("drafter", ["draft model", exhaustive("own heads")])
@pytest.mark.parametrize(("every", "rounds"), [(6, 330), exhaustive(1, 2000)])
def test_sampled_generation_agrees_with_replay_within_three_standard_errors(
    target, draft, prompts, drafter: str, every: int, rounds: int
) -> None:
    """On every so many-th prompt, for so many rounds at least."""
    prompts = prompts[::every]
    model, k = (draft, 4) if drafter == "draft model" else (None, MTP_K)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        decoded = [generate(target, model, prompt, k=k, new=96, sample=True) for prompt in prompts]
    assert sum(len(played) for _, played in decoded) >= rounds
    field = field_of(target, model, [text for text, _ in decoded], k, 1.0)
    expected = expected_counts(field, k, end="clip")
    counted = np.array(
        [
            [sum(accepted > i for _, _, accepted in played) for i in range(k)]
            for _, played in decoded
        ]
    )
    # Given the texts, each prompt's deviation has mean zero; prompts are independent.
    deviation = counted - expected.accepted
    z = deviation.sum(0) / np.sqrt((deviation**2).sum(0))
    assert np.abs(z).max() < 3, f"z per position: {z.round(2)}"
