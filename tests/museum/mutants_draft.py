"""Whole rounds whose verifier is right: what is wrong lies between the drafter and the q that it
reports.
"""

from __future__ import annotations

import torch
from museum.reference import (
    Generator,
    at,
    drawn_rows,
    emitted,
    gumbel,
    leading,
    of,
    passed,
    point_masses,
    q_at,
    recovered,
    reference,
    residual,
    top_k,
    with_temperature,
)
from torch import Tensor

COLD = 0.9


def greedy_drafts(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    return reference(target, draft, draft.argmax(-1), generator)


def greedy_drafts_with_a_dense_residual(
    target: Tensor, draft: Tensor, generator: Generator = None
) -> Tensor:
    tokens = draft.argmax(-1)
    accepted = leading(passed(target, point_masses(tokens, target), tokens, generator))
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def filtered_drafts(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    return reference(target, draft, drawn_rows(top_k(draft), generator), generator)


def colder_drafts(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    return reference(target, draft, drawn_rows(with_temperature(draft, COLD), generator), generator)


def rounded_drafts(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    logits = draft.log().bfloat16()
    return reference(
        target, draft, drawn_rows(logits.softmax(-1).to(draft.dtype), generator), generator
    )


def best_of_two_drafts(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    tokens, other = drawn_rows(draft, generator), drawn_rows(draft[:, :1], generator)
    likelier = torch.where(of(draft, other) > of(draft, tokens[:, :1]), other, tokens[:, :1])
    return reference(target, draft, torch.cat([likelier, tokens[:, 1:]], 1), generator)


def q_of_the_step_before(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    return reference(target, draft.roll(1, 1), drawn_rows(draft, generator), generator)


def shared_noise(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    return _raced(target, draft, gumbel(target, generator), generator, shared_from=0)


def shared_noise_of_one_drafter(
    target: Tensor, draft: Tensor, generator: Generator = None
) -> Tensor:
    return _raced(target, draft, gumbel(target, generator), generator, shared_from=1)


def _raced(
    target: Tensor, draft: Tensor, noise: Tensor, generator: Generator, shared_from: int
) -> Tensor:
    """Drafts and recovered tokens are arg-maxima of log-weights plus noise; from a position on it
    is the same noise.
    """
    tokens = (draft.log() + noise[:, :-1]).argmax(-1)
    accepted = leading(passed(target, draft, tokens, generator))
    fresh = gumbel(target, generator)
    steps = torch.arange(target.shape[1], device=target.device)[:, None]
    again = torch.where(steps >= shared_from, noise, fresh)
    weights = residual(at(target, accepted), q_at(draft, accepted))
    return emitted(tokens, accepted, (weights.log() + at(again, accepted)).argmax(-1))
