"""Verifiers that are each wrong in one place: `reference` with a line or two changed."""

from __future__ import annotations

import torch
from museum.reference import (
    Generator,
    at,
    block_chances,
    block_recovered,
    block_weights,
    coins,
    drawn,
    drawn_rows,
    emitted,
    gumbel,
    leading,
    longest,
    min_p,
    of,
    passed,
    point_masses,
    q_at,
    recovered,
    reference,
    residual,
    with_temperature,
)
from torch import Tensor
from torch.nn.functional import pad
from transformers.generation.utils import _speculative_sampling

ENSEMBLE_WEIGHT = 0.8
TILE = 64
"""Lanes of a kernel's tile."""
TYPICAL_FLOOR, TYPICAL_SHARE = 0.09, 0.3
"""Medusa's defaults."""

# Which drafts are accepted.


def all_accepted(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = torch.full_like(tokens[:, 0], tokens.shape[1])
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def coin_of_zero(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(coins(tokens, target, generator) * of(draft, tokens) <= of(target, tokens))
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def ratio_upside_down(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(coins(tokens, target, generator) * of(target, tokens) < of(draft, tokens))
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def ratio_of_zero_or_one(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    ratio = (of(target, tokens) / of(draft, tokens)).clamp(max=1).floor()
    accepted = leading(coins(tokens, target, generator) < ratio)
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def ratio_to_the_mode(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(
        coins(tokens, target, generator) * target[:, :-1].amax(-1) < of(target, tokens)
    )
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def second_chance(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    same = drawn_rows(target[:, :-1], generator) == tokens
    accepted = leading(same | passed(target, draft, tokens, generator))
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def first_unverified(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    ok = passed(target, draft, tokens, generator)
    ok[:, 0] = True
    accepted = leading(ok)
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def counted(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    accepted = passed(target, draft, tokens, generator).sum(1)
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def typical(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    entropy = torch.special.entr(target[:, :-1]).sum(-1)
    floor = (TYPICAL_SHARE * torch.exp(-entropy)).clamp(max=TYPICAL_FLOOR)
    accepted = leading(of(target, tokens) > floor)
    return emitted(tokens, accepted, drawn(at(target, accepted), generator))


def argmax_accepted(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(target[:, :-1].argmax(-1) == tokens)
    return emitted(tokens, accepted, drawn(at(target, accepted), generator))


def ensemble(target: Tensor, draft: Tensor, tokens: Tensor) -> Tensor:
    """transformers' own function: one row, without a batch dimension."""
    logits, candidates = target.log()[None], draft.log()[None]
    return _speculative_sampling(tokens[None], candidates, len(tokens), logits, ENSEMBLE_WEIGHT)[0][
        0
    ]


def ensemble_in_batches(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    mixed = ENSEMBLE_WEIGHT * of(target, tokens) + (1 - ENSEMBLE_WEIGHT) * of(draft, tokens)
    accepted = leading(coins(tokens, target, generator) * of(draft, tokens) < mixed)
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


# What the token behind them is drawn from.


def resampled_from_target(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    return emitted(tokens, accepted, drawn(at(target, accepted), generator))


def unclamped_residual(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    return emitted(
        tokens,
        accepted,
        drawn((at(target, accepted) - q_at(draft, accepted)).abs() + 1e-9, generator),
    )


def softmaxed_residual(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    weights = residual(at(target, accepted), q_at(draft, accepted)).softmax(-1)
    bonus = (accepted == tokens.shape[1])[:, None]
    return emitted(tokens, accepted, drawn(torch.where(bonus, target[:, -1], weights), generator))


def rejected_token_only(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    rejected = point_masses(tokens, target)
    return emitted(
        tokens,
        accepted,
        drawn(residual(at(target, accepted), q_at(draft * rejected, accepted)), generator),
    )


def filtered_residual(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    return emitted(
        tokens,
        accepted,
        drawn(residual(min_p(at(target, accepted)), q_at(draft, accepted)), generator),
    )


def filtered_bonus(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    last = recovered(target, draft, accepted, generator)
    return emitted(
        tokens,
        accepted,
        torch.where(accepted == tokens.shape[1], drawn(min_p(target[:, -1]), generator), last),
    )


def padding_wins(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    scores = residual(at(target, accepted), q_at(draft, accepted)).log()
    scores = pad(scores, (0, -scores.shape[-1] % TILE))
    return emitted(tokens, accepted, (scores + gumbel(scores, generator)).argmax(-1))


# Which rows are read.


def row_before(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    return reference(target.roll(1, 1), draft, tokens, generator)


def verified_with_the_next_row(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target[:, 1:], draft, tokens, generator))
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def residual_of_the_row_before(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    before = torch.where(accepted < tokens.shape[1], (accepted - 1).clamp(min=0), accepted)
    return emitted(tokens, accepted, recovered(target, draft, before, generator))


def bonus_of_the_last_draft(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    p = at(target, accepted.clamp(max=tokens.shape[1] - 1))
    return emitted(tokens, accepted, drawn(residual(p, q_at(draft, accepted)), generator))


def dropped_word(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    late = (accepted + 1).clamp(max=tokens.shape[1])
    return emitted(tokens, accepted, drawn(at(target, late), generator))


# What p is taken to be.


def logits_for_probabilities(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    logits = (target + 1e-9).log() + 10  # a head's logits are shifted by any constant
    return reference(logits, draft, tokens, generator)


def temperature_unknown(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    return reference(with_temperature(target, 1.25), draft, tokens, generator)


def temperature_of_the_bonus_only(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    verified = torch.cat([with_temperature(target[:, :-1], 1.25), target[:, -1:]], 1)
    return reference(verified, draft, tokens, generator)


def temperature_of_zero(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    temperature = (target.amax(-1, keepdim=True) < 1).to(
        target.dtype
    )  # a greedy row is divided by 0, not left alone
    p = (target.log() / temperature).softmax(-1)
    accepted = leading(passed(p, draft, tokens, generator))
    weights = residual(at(p, accepted), q_at(draft, accepted))
    return emitted(
        tokens,
        accepted,
        (weights / torch.empty_like(weights).exponential_(generator=generator)).argmax(-1),
    )


# Block verification.


def block_with_the_tokens_criterion(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    weights = block_weights(target, draft, tokens)
    accepted = longest(coins(tokens, target, generator) < weights[:, 1:])
    return emitted(tokens, accepted, block_recovered(target, draft, weights, accepted, generator))


def block_with_the_tokens_residual(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    chances = block_chances(target, draft, block_weights(target, draft, tokens))
    accepted = longest(coins(tokens, target, generator) < chances)
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def block_without_q(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    certain = point_masses(tokens, target)
    accepted = longest(coins(tokens, target, generator) < of(target, tokens).cumprod(1))
    return emitted(tokens, accepted, recovered(target, certain, accepted, generator))


# Right distributions, wrong manners.


def draft_zeroed_in_place(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(
        coins(tokens, target, generator) < of(target, tokens)
    )  # q = 1, as for a draft that is certain
    target[:, :-1].scatter_(-1, tokens[..., None], 0.0)
    return emitted(tokens, accepted, drawn(at(target, accepted), generator))


def seed_ignored(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    return reference(target, draft, tokens, None)


def seed_of_the_engine(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    return reference(target, draft, tokens, torch.Generator(target.device).manual_seed(0))
