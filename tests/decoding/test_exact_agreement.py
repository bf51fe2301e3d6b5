"""Replay against transformers' own speculative decoding, on the embedded pair.

At temperature 0 every round of `generate` is replay's round: same start, same number accepted. At temperature 1 the
rounds that `generate` counts agree, position by position, with replay's exact expectation given the emitted texts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from support import EMBEDDED
from transformers import GenerationConfig, GenerationMixin

from pytest_specdec.acceptance.case import OWN_HEADS, Sampling, default_rule
from pytest_specdec.acceptance.prompts import read_prompts
from pytest_specdec.acceptance.renewal import AcceptanceField, expected_counts, sample_rounds
from pytest_specdec.acceptance.texts import Text
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import encode_prompts

PROMPTS = EMBEDDED.parent / "text" / "prompts.jsonl"
MTP_K = 3
UNUSED = 190
"""The NUL byte, in no text, as padding: transformers' assistant masks out every token of its context that equals pad_token_id."""

Round = tuple[int, int, int]
"""Position of the first draft token, tokens drafted, tokens accepted."""


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(EMBEDDED / "text-target"))


@pytest.fixture(scope="module")
def draft() -> LoadedModel:
    return load_model(str(EMBEDDED / "text-draft"))


@pytest.fixture(scope="module")
def prompts(target: LoadedModel) -> list[list[int]]:
    return encode_prompts(target.tokenizer, read_prompts(PROMPTS))


@contextmanager
def rounds_of_generate() -> Iterator[list[Round]]:
    """Record every round through the call with which transformers reports it to its candidate generator."""
    seen: list[Round] = []
    make: Callable[..., Any] = GenerationMixin._get_candidate_generator

    def with_hook(self: Any, *arguments: Any, **keywords: Any) -> Any:
        generator = make(self, *arguments, **keywords)
        update = generator.update_candidate_strategy

        def hook(input_ids: torch.Tensor, scores: torch.Tensor, num_matches: int) -> Any:
            accepted = int(num_matches)
            seen.append((input_ids.shape[1] - accepted - 1, scores.shape[1] - 1, accepted))
            return update(input_ids, scores, num_matches)

        generator.update_candidate_strategy = hook
        return generator

    GenerationMixin._get_candidate_generator = with_hook
    try:
        yield seen
    finally:
        GenerationMixin._get_candidate_generator = make


def generate(
    target: LoadedModel, draft: LoadedModel | None, prompt: list[int], *, k: int, new: int, sample: bool
) -> tuple[Text, list[Round]]:
    """One text by transformers' speculative decoding, with its rounds that drafted anything."""
    config = GenerationConfig(
        max_new_tokens=new, min_new_tokens=new, do_sample=sample, bos_token_id=0, pad_token_id=UNUSED,
        **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {}),
    )  # fmt: skip
    helper: dict[str, Any] = {"use_mtp": True} if draft is None else {"assistant_model": draft.model}
    if draft is not None:
        own = GenerationConfig(bos_token_id=0, pad_token_id=UNUSED)
        own.num_assistant_tokens, own.num_assistant_tokens_schedule, own.assistant_confidence_threshold = k, "constant", 0.0
        draft.model.generation_config = own
    _ = target.heads  # names the MTP layers where transformers looks for them
    with rounds_of_generate() as seen:
        ids = torch.tensor([prompt])
        out = target.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config, **helper)
    return Text(str(len(prompt)), "all", tuple(out[0].tolist()), len(prompt)), [own for own in seen if own[1] > 0]


def field_of(target: LoadedModel, draft: LoadedModel | None, texts: list[Text], k: int, temperature: float) -> AcceptanceField:
    """The acceptance field; a draft model drafts before the prompt pass in transformers, one position earlier."""
    plan = DrafterPlan(draft or OWN_HEADS, 0 if draft else MTP_K, k)
    (scores,) = text_scores(target, [plan], texts, Sampling(temperature))
    field = scores.field(default_rule(temperature))
    return dataclasses.replace(field, starts=field.starts - 1) if draft else field


@pytest.mark.parametrize("k", [1, 4, 8])
def test_greedy_assisted_generation_is_replay_round_for_round(target, draft, prompts, k: int) -> None:
    compare_greedy(target, draft, prompts[::2], k)


def test_greedy_mtp_generation_is_replay_round_for_round(target, prompts) -> None:
    compare_greedy(target, None, prompts[::2], MTP_K)


def compare_greedy(target: LoadedModel, draft: LoadedModel | None, prompts: list[list[int]], k: int) -> None:
    """All rounds of all texts, those clipped by the length limit included."""
    assert len(prompts) >= 32
    decoded = [generate(target, draft, prompt, k=k, new=64, sample=False) for prompt in prompts]
    field = field_of(target, draft, [text for text, _ in decoded], k, 0.0)
    replayed = sample_rounds(field, k, np.random.default_rng(0), end="clip")
    # With one token to go replay and assisted generation draft nothing; MTP drafts, and can accept nothing.
    counted = [[(start, taken) for start, _, taken in rounds if start + 1 < len(text.ids)] for text, rounds in decoded]
    assert all(UNUSED not in text.ids for text, _ in decoded)
    assert counted == replayed
    outcomes = {accepted for rounds in counted for _, accepted in rounds}
    assert {0, k} <= outcomes
    assert outcomes == set(range(k + 1)) or k > 4


@pytest.mark.parametrize("drafter", ["draft model", "own heads"])
def test_sampled_generation_agrees_with_replay_within_three_standard_errors(target, draft, prompts, drafter: str) -> None:
    model, k = (draft, 4) if drafter == "draft model" else (None, MTP_K)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        decoded = [generate(target, model, prompt, k=k, new=96, sample=True) for prompt in prompts]
    assert sum(len(rounds) for _, rounds in decoded) >= 2000
    field = field_of(target, model, [text for text, _ in decoded], k, 1.0)
    expected = expected_counts(field, k, end="clip")
    counted = np.array([[sum(accepted > i for _, _, accepted in rounds) for i in range(k)] for _, rounds in decoded])
    # Given the texts, each prompt's deviation has mean zero; prompts are independent.
    deviation = counted - expected.accepted
    z = deviation.sum(0) / np.sqrt((deviation**2).sum(0))
    assert np.abs(z).max() < 3, f"z per position: {z.round(2)}"
