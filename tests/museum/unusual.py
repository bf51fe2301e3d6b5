"""Samplers that look wrong, or unlike any other, and keep the target's distribution all the same:
all of them must pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from museum import reference as clean
from museum.reference import (
    Generator,
    at,
    coins,
    drawn,
    drawn_rows,
    emitted,
    gumbel,
    leading,
    of,
    passed,
    point_masses,
    q_at,
    recovered,
    residual,
)
from torch import Tensor
from transformers.generation.utils import _speculative_sampling

from pytest_specdec.decoding import verification as rules
from pytest_specdec.lossless.samplers.sampler import Drafts


@dataclasses.dataclass(frozen=True)
class Unusual:
    """A correct sampler: what is odd about it, and how it is called."""

    name: str
    oddity: str
    sample: Callable[..., Any]
    drafts: Drafts = "given"
    batched: bool = True
    dtype: torch.dtype = torch.float32
    boundary: bool = True
    """Whether it is right for draws at the ends of their range, too."""


def sample_match(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    sampled = drawn_rows(target, generator)
    accepted = leading(sampled[:, :-1] == tokens)
    return emitted(tokens, accepted, sampled.gather(1, accepted[:, None])[:, 0])


def lazy_sample_match(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> list[int]:
    emitted_tokens: list[int] = []
    for distribution, guess in zip(target, [*tokens.tolist(), None], strict=True):
        emitted_tokens.append(torch.multinomial(distribution, 1, generator=generator).item())
        if emitted_tokens[-1] != guess:
            break
    return emitted_tokens


def q_of_one(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    return clean.reference(target, point_masses(tokens, target), tokens, generator)


def greedy_drafts(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    return q_of_one(target, draft, draft.argmax(-1), generator)


def prompt_lookup(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    tokens = torch.arange(draft.shape[1]).expand(draft.shape[:2]) % draft.shape[-1]
    return q_of_one(target, draft, tokens, generator)


def exponential_race(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(passed(target, draft, tokens, generator))
    weights = residual(at(target, accepted), q_at(draft, accepted))
    return emitted(
        tokens,
        accepted,
        (weights / torch.empty_like(weights).exponential_(generator=generator)).argmax(-1),
    )


def recovered_everywhere(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    """vLLM's way: a recovered token for every position and a bonus token, before it is known which
    is used.
    """
    accepted = leading(passed(target, draft, tokens, generator))
    weights = (target[:, :-1] - draft).clamp(min=0)
    every = (
        weights * torch.empty_like(weights).exponential_(generator=generator).reciprocal()
    ).argmax(-1)
    every = torch.cat([every, drawn(target[:, -1], generator)[:, None]], 1)
    return emitted(tokens, accepted, every.gather(1, accepted[:, None])[:, 0])


def gumbel_everywhere(target: Tensor, draft: Tensor, generator: Generator = None) -> Tensor:
    """Drafts, recovered and bonus tokens are arg-maxima of log-weights plus noise, each with noise
    of its own.
    """
    tokens = (draft.log() + gumbel(draft, generator)).argmax(-1)
    accepted = leading(passed(target, draft, tokens, generator))
    weights = residual(at(target, accepted), q_at(draft, accepted))
    return emitted(tokens, accepted, (weights.log() + gumbel(weights, generator)).argmax(-1))


def in_double(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    target, draft = clean.normalised(target.double()), clean.normalised(draft.double())
    return clean.reference(target, draft, tokens, generator)


def in_logarithms(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    log_ratio = of(target, tokens).log() - of(draft, tokens).log()
    accepted = leading(coins(tokens, target, generator).log() < log_ratio)
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def flipped_coins(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    accepted = leading(
        1 - coins(tokens, target, generator) <= of(target, tokens) / of(draft, tokens)
    )
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def by_bernoulli(
    target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
) -> Tensor:
    ratio = (of(target, tokens) / of(draft, tokens)).clamp(max=1)
    accepted = leading(torch.bernoulli(ratio, generator=generator) == 1)
    return emitted(tokens, accepted, recovered(target, draft, accepted, generator))


def cumulated(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    """FlashInfer's way: the recovered token by inverting the cumulated residual."""
    accepted = leading(passed(target, draft, tokens, generator))
    sums = residual(at(target, accepted), q_at(draft, accepted)).cumsum(-1)
    level = torch.rand(len(sums), 1, generator=generator) * sums[:, -1:]
    return emitted(tokens, accepted, torch.searchsorted(sums, level, right=True)[:, 0])


def scalar(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> list[int]:
    """One draft after the other; coins are drawn only while drafts are accepted."""
    for step, token in enumerate(tokens.tolist()):
        if torch.rand((), generator=generator) * draft[step, token] >= target[step, token]:
            rest = residual(target[step], draft[step])
            return [*tokens[:step].tolist(), torch.multinomial(rest, 1, generator=generator).item()]
    return [*tokens.tolist(), torch.multinomial(target[-1], 1, generator=generator).item()]


def in_numpy(
    target: np.ndarray, draft: np.ndarray, tokens: np.ndarray, rng: np.random.Generator
) -> list[int]:
    for step, token in enumerate(tokens):
        if rng.random() * draft[step, token] >= target[step, token]:
            rest = np.maximum(target[step] - draft[step], 0)
            return [*tokens[:step], rng.choice(len(rest), p=rest / rest.sum())]
    return [*tokens, rng.choice(target.shape[1], p=target[-1])]


def in_halves(target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None) -> Tensor:
    """For distributions in half precision: cast up and normalised before anything is compared."""
    return clean.reference(
        clean.normalised(target.float()), clean.normalised(draft.float()), tokens, generator
    )


def from_transformers(target: Tensor, draft: Tensor, tokens: Tensor) -> Tensor:
    return _speculative_sampling(tokens[None], draft.log()[None], len(tokens), target.log()[None])[
        0
    ][0]


def _rule(verify: rules.Verify) -> Callable[..., Tensor]:
    def sample(
        target: Tensor, draft: Tensor, tokens: Tensor, generator: Generator = None
    ) -> Tensor:
        longer = torch.cat([draft, torch.zeros_like(draft[:, :1])], 1)
        return emitted(tokens, *verify(target, longer, tokens, generator))

    sample.__name__ = verify.__name__
    return sample


UNUSUAL = (
    Unusual(
        "sample match",
        "a draft must equal a fresh sample of the target, and q is never used",
        sample_match,
    ),
    Unusual(
        "lazy sample match",
        "the target is sampled only while it agrees with the drafts",
        lazy_sample_match,
        batched=False,
    ),
    Unusual("q of one", "sampled drafts are verified as if they had been certain", q_of_one),
    Unusual("greedy drafts", "arg-max drafts, verified as certain", greedy_drafts, drafts="own"),
    Unusual(
        "prompt lookup",
        "drafts are copied from elsewhere, verified as certain",
        prompt_lookup,
        drafts="own",
    ),
    Unusual(
        "exponential race",
        "the last token is the arg-max of weights over exponentials",
        exponential_race,
    ),
    Unusual(
        "recovered everywhere",
        "recovered tokens are drawn for all positions, used or not",
        recovered_everywhere,
    ),
    Unusual(
        "Gumbel everywhere",
        "drafts and recovered tokens are races with their own noise",
        gumbel_everywhere,
        drafts="own",
    ),
    Unusual(
        "block",
        "block verification: a prefix may hold a draft that alone would be rejected",
        clean.block,
    ),
    Unusual("double precision", "distributions and coins in float64", in_double),
    Unusual("logarithms", "log u < log p - log q, with logarithms of 0", in_logarithms),
    Unusual("flipped coins", "1 - u <= p / q: the boundary lies at the other end", flipped_coins),
    Unusual("Bernoulli", "coins with the probability min(1, p / q), no uniforms", by_bernoulli),
    Unusual("cumulated", "the last token by inverting the cumulated residual", cumulated),
    Unusual(
        "scalar", "one draft after the other, and no more coins than needed", scalar, batched=False
    ),
    Unusual("numpy", "numpy arrays and Generator.choice", in_numpy, batched=False),
    Unusual(
        "half precision",
        "distributions in float16, cast up before use",
        in_halves,
        dtype=torch.float16,
    ),
    Unusual(
        "transformers",
        "its `_speculative_sampling`, from logits",
        from_transformers,
        batched=False,
        boundary=False,
    ),
    Unusual("our rejection", "this project's rule", _rule(rules.rejection)),
    Unusual("our block", "this project's rule", _rule(rules.block)),
    Unusual("our sample match", "this project's rule", _rule(rules.sample_match)),
)
