"""The q contract of real drafters: ours while they decode, and transformers' candidate generators
inside `generate`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.embedded import Pair, generate
from helpers.tiers import crossed, exhaustive
from transformers.generation.candidate_generator import MTPCandidateGenerator

from pytest_specdec.cases.case import LOOKUP, OWN_HEADS, Sampling
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.lossless.drafters.q_contract import Proposal, q_contract
from pytest_specdec.lossless.drafters.recorded import decoded_proposals, recorded_candidates

SAMPLINGS = [
    Sampling(1.0, 0, 1.0),
    Sampling(0.7, 0, 1.0),
    Sampling(1.0, 5, 1.0),
    Sampling(1.0, 0, 0.8),
    Sampling(0.0, 0, 1.0),
]


@crossed(
    drafting=[
        ("draft", 4, 0),
        ("draft", 4, 3),
        (OWN_HEADS, 3, 3),
        (OWN_HEADS, 4, 1),
        (LOOKUP, 4, 0),
    ],
    sampling=SAMPLINGS,
    ids=lambda given: getattr(given, "suffix", str(given)),
)
def test_our_drafters_keep_it(
    pair: Pair, drafting: tuple[str, int, int], sampling: Sampling
) -> None:
    drafter, k, depth = drafting
    model = pair.draft if drafter == "draft" else drafter
    proposals = decoded_proposals(
        pair.target, model, pair.prompts[:16], k=k, depth=depth, sampling=sampling, new_tokens=32
    )
    result = q_contract(proposals)
    assert result.kept, result.message
    assert result.drafts > 100


def proposals_of_generate(
    pair: Pair, draft: LoadedModel | None, prompts: int = 16, **filters: float
) -> list[Proposal]:
    """What transformers' candidate generators propose after a few prompts; own heads without a
    draft model.
    """
    torch.manual_seed(0)
    with recorded_candidates() as kept:
        for prompt in pair.prompts[:prompts]:
            generate(pair.target, draft, prompt, k=4, new=48, sample=True, **filters)
    return kept


FILTERS = [
    ({}, 8),
    ({"top_k": 5}, 8),
    *(exhaustive(kept, 16) for kept in ({}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8})),
]
"""Of sampling, and on how many prompts."""


@pytest.mark.parametrize(("filters", "prompts"), FILTERS, ids=str)
def test_transformers_assisted_generation(
    pair: Pair, filters: dict[str, float], prompts: int
) -> None:
    result = q_contract(proposals_of_generate(pair, pair.draft, prompts, **filters))
    assert result.kept, result.message
    assert result.drafts > 500 * prompts // 16


@pytest.mark.parametrize(("filters", "prompts"), FILTERS, ids=str)
def test_transformers_mtp(pair: Pair, filters: dict[str, float], prompts: int) -> None:
    """Broken up to huggingface/transformers#47932, and whole again in 5.23."""
    result = q_contract(proposals_of_generate(pair, None, prompts, **filters))
    assert result.kept, result.message
    assert result.drafts > 500 * prompts // 16


def test_the_breach_of_47932_is_found(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts from processed logits (here a temperature), raw ones reported: built into
    transformers' generator again.
    """
    whole = MTPCandidateGenerator.get_candidates

    def raw(self: MTPCandidateGenerator, *arguments: Any, **named: Any) -> Any:
        ids, logits = whole(self, *arguments, **named)
        return ids, None if logits is None else logits * 0.7

    monkeypatch.setattr(MTPCandidateGenerator, "get_candidates", raw)
    result = q_contract(proposals_of_generate(pair, None, temperature=0.7))
    assert not result.kept
    assert "a lower temperature" in result.message


@pytest.mark.parametrize("drafter", ["draft", OWN_HEADS])
def test_our_drafters_at_another_temperature_are_found(pair: Pair, drafter: str) -> None:
    """The whole check is not blind: reported distributions flattened by hand."""
    model = pair.draft if drafter == "draft" else drafter
    sampling = Sampling(0.7)
    proposals = decoded_proposals(
        pair.target, model, pair.prompts, k=3, depth=3, sampling=sampling, new_tokens=48
    )
    flat = (
        (tokens, distributions**0.7 / (distributions**0.7).sum(-1, keepdim=True).clamp(min=1e-9))
        for tokens, distributions in proposals
    )
    assert not q_contract(flat).kept
