"""Record what drafters propose and report while they decode: ours, and transformers' candidate
generators.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch

from ...cases.case import Sampling
from ...decoding.batch import Batch, BatchRow, DecodingPlan
from ...decoding.loading import LoadedModel
from ...decoding.verification import rule_named
from .q_contract import Proposal


def decoded_proposals(
    target: LoadedModel,
    drafter: str | LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    k: int,
    depth: int = 0,
    sampling: Sampling,
    new_tokens: int = 64,
    seed: int = 0,
) -> Iterator[Proposal]:
    """What one of our drafters proposes, round by round, while it decodes after prompts of token
    ids; for `q_contract`.
    """
    rule = rule_named("rejection" if sampling.temperature else "greedy")
    plan = DecodingPlan(
        target, drafter, k, depth, sampling, rule, torch.Generator(target.device).manual_seed(seed)
    )
    batch = Batch(plan, [BatchRow([*ids], len(ids) + new_tokens) for ids in prompts])
    while batch.running:
        batch.draft()
        tokens, distributions = batch.proposed
        yield tokens, distributions[:, : tokens.shape[1]]
        batch.verify()


@contextlib.contextmanager
def recorded_candidates() -> Iterator[list[Proposal]]:
    """While entered, keep the drafts and distributions of every round that transformers' `generate`
    verifies by rejection sampling.

    The distributions are those that its acceptance ratio uses, whatever the candidate generator:
    what is judged is what counts.
    """
    from transformers.generation import utils

    kept: list[Proposal] = []
    original = utils._speculative_sampling

    def recording(
        candidate_input_ids: torch.Tensor,
        candidate_logits: torch.Tensor,
        candidate_length: int,
        *rest: Any,
        **named: Any,
    ) -> Any:
        drafts = (
            candidate_input_ids[:, -candidate_length:]
            if candidate_length
            else candidate_input_ids[:, :0]
        )
        kept.append((drafts.cpu(), candidate_logits[:, :candidate_length].softmax(-1).cpu()))
        return original(candidate_input_ids, candidate_logits, candidate_length, *rest, **named)

    with mock.patch.object(utils, "_speculative_sampling", recording):
        yield kept
