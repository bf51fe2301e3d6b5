"""Verification rules: which drafts are accepted, and the token that follows them.

Every rule sees a batch of rounds: `target` (rows, k + 1, vocabulary), the distributions p at each
draft position and after the last; `draft` (rows, k + 1, vocabulary), the distributions q that the
drafts were drawn from, zero from where a row has no more drafts; `tokens` (rows, k), the drafts. It
returns the accepted tokens (rows,) and the token after them (rows,). With q = 0 after the last
draft the residual there is p itself, so a bonus token needs no special case.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from ..acceptance.counts import Array
from ..cases.rules import known_rule, load_rule
from .distributions import draw, likeliest

Generator = torch.Generator | None
Verified = tuple[torch.Tensor, torch.Tensor]
Verify = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Generator], Verified]

TYPICAL_FLOOR, TYPICAL_SHARE = 0.09, 0.3
"""Medusa's defaults: a draft is typical if p(x) > min(floor, share * exp(-entropy))."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """A verification rule. Another package adds one through the entry-point group
    `pytest_specdec.rules`, see docs/add-a-verification-rule.md.
    """

    name: str
    verify: Verify
    lossless: bool
    """Whether the emitted tokens follow the target's distribution, whatever the drafter."""
    accepted: Callable[[Array, Array], Array] | None = None
    """For replay of a lossless rule of another package: the probability that a given token is
    accepted, from log q and log p of it.

    Two arrays that broadcast to (texts, heads, longest); returns probabilities of that shape. The
    token is one that the target emitted, so for rejection sampling this is min(1, q/p). None where
    it does not follow from p and q of the token alone; then the rule is measured by decoding.
    """


def rule_named(name: str) -> Rule:
    """Raises RequestError for an unknown name, or an entry point that is not a rule."""
    rule: Rule = load_rule(known_rule(name))
    return rule


def rejection(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Generator
) -> Verified:
    """Accept x with probability min(1, p/q), else draw from max(p - q, 0) (Leviathan et al., arXiv
    2211.17192).
    """
    p, q = _of(target, tokens), _of(draft, tokens)
    coins = torch.rand(p.shape, generator=generator, device=p.device)
    accepted = _leading((coins * q < p) & (q > 0))
    return accepted, _draw_residual(_at(target, accepted), _at(draft, accepted), generator)


def block(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Generator
) -> Verified:
    """Block verification (Sun et al., arXiv 2403.10444, algorithm 2): positions are accepted
    jointly.

    w_i = min(1, w_{i-1} p/q); the longest prefix is kept whose coin falls below r / (r + 1 - w_i)
    with r the mass of max(w_i p - q, 0) after it; that is w_k after the last draft.
    """
    p, q = _of(target, tokens), _of(draft, tokens)
    drafted = q > 0
    ratios = torch.where(drafted, p / q, 0.0)
    weights = [torch.ones_like(p[:, 0])]
    for ratio in ratios.unbind(1):
        weights.append((weights[-1] * ratio).clamp(max=1.0))
    weight = torch.stack(weights, 1)
    residual = (weight[..., None] * target - draft).clamp(min=0)
    mass = residual.sum(-1)
    chance = mass / (mass + 1 - weight).clamp(min=torch.finfo(mass.dtype).tiny)
    coins = torch.rand(p.shape, generator=generator, device=p.device)
    steps = torch.arange(1, p.shape[1] + 1, device=p.device)
    accepted = torch.where((coins < chance[:, 1:]) & drafted, steps, 0).amax(1)
    kept = weight.gather(1, accepted[:, None])
    return accepted, _draw_residual(kept * _at(target, accepted), _at(draft, accepted), generator)


def sample_match(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Generator
) -> Verified:
    """Draw the target's own tokens and accept drafts while they are equal."""
    return matched(draw(target, generator), tokens, _of(draft, tokens) > 0)


def greedy(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Generator
) -> Verified:
    """Accept drafts while they are the target's arg-max."""
    return matched(likeliest(target), tokens, _of(draft, tokens) > 0)


def matched(own: torch.Tensor, tokens: torch.Tensor, proposed: torch.Tensor) -> Verified:
    """Accept drafts while they are the target's own tokens (rows, k + 1); `proposed` (rows, k) says
    which tokens are drafts.
    """
    accepted = _leading((own[:, :-1] == tokens) & proposed)
    return accepted, own.gather(1, accepted[:, None])[:, 0]


def typical(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Generator
) -> Verified:
    """Typical acceptance (Medusa, arXiv 2401.10774): accept what the target finds likely enough.
    Lossy.
    """
    entropy = torch.special.entr(target[:, :-1]).sum(-1)
    floor = (TYPICAL_SHARE * torch.exp(-entropy)).clamp(max=TYPICAL_FLOOR)
    accepted = _leading((_of(target, tokens) > floor) & (_of(draft, tokens) > 0))
    return accepted, draw(_at(target, accepted), generator)


REJECTION = Rule("rejection", rejection, lossless=True)
GREEDY = Rule("greedy", greedy, lossless=True)
SAMPLE_MATCH = Rule("sample-match", sample_match, lossless=True)
BLOCK = Rule("block", block, lossless=True)
TYPICAL = Rule("typical", typical, lossless=False)
"""The rules of this package, as `cases.rules` names them."""


def _of(distributions: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(rows, k): each token's probability at its own position."""
    return distributions[:, :-1].gather(-1, tokens[..., None])[..., 0]


def _at(distributions: torch.Tensor, accepted: torch.Tensor) -> torch.Tensor:
    """(rows, vocabulary): the distribution after the accepted tokens."""
    return distributions[torch.arange(len(accepted), device=distributions.device), accepted]


def _leading(accepted: torch.Tensor) -> torch.Tensor:
    """(rows,): how many are accepted before the first that is not."""
    return accepted.long().cumprod(1).sum(1)


def _draw_residual(target: torch.Tensor, draft: torch.Tensor, generator: Generator) -> torch.Tensor:
    """A token from max(target - draft, 0); from the target where rounding leaves no mass at all."""
    residual = (target - draft).clamp(min=0)
    return draw(torch.where(residual.sum(-1, keepdim=True) > 0, residual, target), generator)
