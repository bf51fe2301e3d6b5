"""One round of speculative sampling as it should be, in parts, for the museum's samplers to deviate
from.

Everything is batched: p (rows, k + 1, vocabulary), q (rows, k, vocabulary), drafts (rows, k). A
round returns the emitted tokens (rows, k + 1), -1 behind the last.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

Generator = torch.Generator | None
MIN_P = 0.3
"""Tokens less likely than this share of the likeliest are filtered out."""


def reference(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    """Leviathan et al., arXiv 2211.17192, algorithm 1, for drafts that were drawn from q."""
    accepted = leading(passed(target, draft, tokens, generator))
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def whole_round(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    """The same, drawing its own drafts."""
    return reference(target, draft, drawn_rows(draft, generator), generator)


def passed(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator) -> Tensor:
    """(rows, k): whether each draft alone is accepted, with probability min(1, p / q)."""
    return coins(tokens, target, generator) * of(draft, tokens) < of(target, tokens)


def leading(ok: Tensor) -> Tensor:
    """(rows,): how many drafts are accepted before the first that is not."""
    return ok.long().cumprod(1).sum(1)


def recovered(target: Tensor, draft: Tensor, accepted: Tensor, generator: Generator) -> Tensor:
    """(rows,): the token after the accepted drafts, drawn from max(p - q, 0), or from p behind the
    last draft.
    """
    return drawn(residual(at(target, accepted), q_at(draft, accepted)), generator)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """max(p - q, 0), not normalised; p where rounding leaves nothing."""
    rest = (p - q).clamp(min=0)
    return torch.where(rest.sum(-1, keepdim=True) > 0, rest, p)


def emitted(tokens: Tensor, accepted: Tensor, last: Tensor) -> Tensor:
    """(rows, k + 1): the accepted drafts, and the last token after them."""
    steps = torch.arange(tokens.shape[1] + 1, device=tokens.device)
    longer = torch.cat([tokens, torch.full_like(tokens[:, :1], -1)], 1)
    return torch.where(steps < accepted[:, None], longer, -1).scatter(
        1, accepted[:, None], last[:, None]
    )


def of(distributions: Tensor, tokens: Tensor) -> Tensor:
    """(rows, k): each draft's probability at its own position."""
    return distributions[:, : tokens.shape[1]].gather(-1, tokens[..., None])[..., 0]


def at(distributions: Tensor, accepted: Tensor) -> Tensor:
    """(rows, vocabulary): the distribution after the accepted drafts."""
    return distributions[torch.arange(len(distributions), device=distributions.device), accepted]


def q_at(draft: Tensor, accepted: Tensor) -> Tensor:
    """(rows, vocabulary): q after the accepted drafts; 0 after the last."""
    last = draft.shape[1] - 1
    return at(draft, accepted.clamp(max=last)) * (accepted <= last)[:, None]


def coins(tokens: Tensor, like: Tensor, generator: Generator) -> Tensor:
    """(rows, k): uniform on [0, 1)."""
    return torch.rand(tokens.shape, generator=generator, dtype=like.dtype, device=like.device)


def drawn(weights: Tensor, generator: Generator) -> Tensor:
    """(rows,): one token for each row of weights."""
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


def drawn_rows(distributions: Tensor, generator: Generator) -> Tensor:
    """(rows, k): one token for each distribution."""
    return drawn(distributions.flatten(0, 1), generator).reshape(distributions.shape[:2])


def gumbel(like: Tensor, generator: Generator) -> Tensor:
    return -torch.empty_like(like).exponential_(generator=generator).log()


def with_temperature(distribution: Tensor, temperature: float) -> Tensor:
    return normalised(distribution ** (1 / temperature))


def min_p(distribution: Tensor) -> Tensor:
    return normalised(distribution * (distribution >= MIN_P * distribution.amax(-1, keepdim=True)))


def top_k(distribution: Tensor) -> Tensor:
    """Keep half of the vocabulary."""
    kept = (distribution.shape[-1] + 1) // 2
    return normalised(distribution * (distribution >= distribution.topk(kept).values[..., -1:]))


def normalised(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)


def point_masses(tokens: Tensor, like: Tensor) -> Tensor:
    """(rows, k, vocabulary): the distribution of drafts that are certain."""
    return one_hot(tokens, like.shape[-1]).to(like.dtype)


def block_weights(target: Tensor, draft: Tensor, tokens: Tensor) -> Tensor:
    """(rows, k + 1): w_0 = 1, w_i = min(1, w_{i-1} p / q) (Sun et al., arXiv 2403.10444)."""
    weights = [torch.ones_like(target[:, 0, 0])]
    for ratio in (of(target, tokens) / of(draft, tokens)).unbind(1):
        weights.append((weights[-1] * ratio).clamp(max=1))
    return torch.stack(weights, 1)


def block_chances(target: Tensor, draft: Tensor, weights: Tensor) -> Tensor:
    """(rows, k): r / (r + 1 - w) with r the mass of max(w p - q, 0) behind the prefix; w itself
    behind the last draft.
    """
    mass = (weights[:, 1:-1, None] * target[:, 1:-1] - draft[:, 1:]).clamp(min=0).sum(-1)
    whole = mass + 1 - weights[:, 1:-1]
    return torch.cat([torch.where(whole > 0, mass / whole, 1.0), weights[:, -1:]], 1)


def longest(ok: Tensor) -> Tensor:
    """(rows,): the length of the longest prefix whose last draft is accepted."""
    return torch.where(ok, torch.arange(1, ok.shape[1] + 1, device=ok.device), 0).amax(1)


def block(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    """Block verification, arXiv 2403.10444, algorithm 2."""
    weights = block_weights(target, draft, tokens)
    chances = block_chances(target, draft, weights)
    accepted = longest(coins(tokens, target, generator) < chances)
    return emitted(tokens, accepted, block_recovered(target, draft, weights, accepted, generator))


def block_recovered(
    target: Tensor, draft: Tensor, weights: Tensor, accepted: Tensor, generator: Generator
) -> Tensor:
    kept = weights.gather(1, accepted[:, None])
    return drawn(residual(kept * at(target, accepted), q_at(draft, accepted)), generator)
