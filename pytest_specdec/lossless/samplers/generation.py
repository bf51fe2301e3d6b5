"""assert_lossless_generation: whether a decoder's rounds keep the target's distribution where it
depends on the whole text, under penalties, grammars and other logits processors.

One round sees one prefix, so a sampler of one round cannot be wrong about the tokens of the rounds
before: counts of rejected drafts, a grammar's state that was not taken back. Here the decoder runs
all rounds of a short text on a toy model, every draw is followed, and the exact distribution of the
text is compared with the target's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ...common.errors import RequestError
from ...decoding.processors import processors_of
from .exact import Distribution, PathFollower, distribution_gap, outcomes
from .failure import SamplerFailure, failure_of
from .prefix_tree import Prefix, PrefixTree
from .sampler import ContractError, Sampler, emitted_tokens

Logits = Callable[[Sequence[Any]], torch.Tensor]
"""Logits (vocabulary,) of the token after token ids, before any processor."""
Generate = Callable[..., Any]
TOLERANCE = 1e-5
"""How far rounding may put a probability off, over the rounds of a text."""
_TURNS = 3
_SPREAD = 1.5


@dataclasses.dataclass(frozen=True)
class GenerationResult:
    """What a decoder has passed."""

    name: str
    examples: int
    new_tokens: int

    def __str__(self) -> str:
        return (
            f"{self.name} is lossless: the distribution of up to {self.new_tokens} tokens is exact "
            f"on {self.examples} toy models"
        )


def assert_lossless_generation(
    generate: Generate,
    *,
    processors: object = None,
    vocab_size: int = 3,
    k: int = 2,
    new_tokens: int = 3,
    prompt_length: int = 2,
    max_examples: int = 4,
    seed: int = 0,
) -> GenerationResult:
    """Raise AssertionError unless the texts that a decoder emits round by round follow the target's
    distribution under logits processors.

    Parameters
    ----------
    generate
        The decoder: `generate(target, draft, prompt, k, new_tokens, generator)` decodes after the
        token ids `prompt` in rounds of `k` drafts and returns the new tokens, `new_tokens` or more.
        `target(ids)` and `draft(ids)` are toy models: logits (vocab_size,) after token ids. It
        applies its processors itself, and draws with torch.
    processors
        What it should apply: functions of (input_ids, scores) as transformers' `LogitsProcessor`,
        one or a list, before a temperature of 1.
    vocab_size, k, new_tokens, prompt_length
        The sizes. Toy models take turns with 1 to `k` drafts a round, and with one new token fewer
        for each draft more (at least 2): the number of paths grows with both. Three tokens hold a
        second round after a round of one draft, whether it was accepted or not.
    max_examples
        Toy models to try.
    seed
        Of the models and prompts.

    Returns
    -------
    GenerationResult
        What was tried.

    Raises
    ------
    AssertionError
        The text's distribution is wrong; the message shows the shortest prefix.
    RequestError
        A size is out of range, or a processor cannot be used.
    NotEnumerableError
        A draw cannot be followed.

    Examples
    --------
    A decoder that forgets its processor:

    >>> import torch
    >>> from transformers import RepetitionPenaltyLogitsProcessor
    >>> from pytest_specdec.lossless import assert_lossless_generation
    >>> def plain(target, draft, prompt, k, new_tokens, generator):
    ...     text = list(prompt)
    ...     for _ in range(new_tokens):
    ...         p = target(text).softmax(-1)
    ...         text.append(int(torch.multinomial(p, 1, generator=generator)))
    ...     return text[len(prompt) :]
    >>> print(assert_lossless_generation(plain, new_tokens=2))
    plain is lossless: the distribution of up to 2 tokens is exact on 4 toy models
    >>> penalty = RepetitionPenaltyLogitsProcessor(1.5)
    >>> try:
    ...     assert_lossless_generation(plain, processors=penalty, new_tokens=2)
    ... except AssertionError as failure:
    ...     print(str(failure).partition(":")[0])
    plain is not lossless (exact)
    """
    __tracebackhide__ = True
    if vocab_size < 2 or min(k, new_tokens, prompt_length, max_examples) < 1:
        raise RequestError(
            f"vocab_size {vocab_size}, k {k}, new_tokens {new_tokens}, prompt_length "
            f"{prompt_length}, max_examples {max_examples}; use at least 2, and 1 of all others"
        )
    changes = processors_of(processors)
    sampler = Sampler(generate, "torch")
    for example in range(max_examples):
        rng = np.random.default_rng((seed, example))
        toys = (_toy(rng, vocab_size), _toy(rng, vocab_size))
        prompt = tuple(rng.integers(0, vocab_size, prompt_length).tolist())
        drafts = 1 + example % k
        given = _Given(*toys, prompt, drafts, max(new_tokens + 1 - drafts, min(new_tokens, 2)))
        expected = processed_tree(toys[0], changes, prompt)
        fault = failure_of(functools.partial(given.fault, sampler, expected))
        if fault is not None:
            raise AssertionError(
                f"{sampler.name} is not lossless (exact): {fault.text}, after the prompt "
                f"{list(prompt)} of toy model {example} with k = {drafts}"
            ) from fault.cause
    return GenerationResult(sampler.name, max_examples, new_tokens)


def processed_tree(
    logits: Logits, processors: object = None, prompt: Sequence[int] = ()
) -> PrefixTree:
    """The distribution of the next token after each prefix of new tokens, under logits processors:
    what `output_distribution` compares one round with.

    `logits(ids)` are a model's after prompt and prefix. Raises RequestError where no token is left.
    """
    changes = processors_of(processors)
    of_text = None if changes is None else changes.for_text(prompt)

    def distribution(prefix: Prefix) -> list[float]:
        ids = [*prompt, *prefix]
        scores = logits(ids)
        if of_text is not None:
            scores = of_text(torch.tensor(ids, dtype=torch.long), scores)
        if not bool((scores > -torch.inf).any()):
            # Nothing follows here: a text that ended, or that cannot be emitted.
            return [1.0, *[0.0] * (len(scores) - 1)]
        row: list[float] = scores.double().softmax(-1).tolist()
        return row

    return PrefixTree(distribution)


def _toy(rng: np.random.Generator, vocab_size: int) -> Logits:
    """A model whose logits depend on the last token and the length of what it reads."""
    table = torch.tensor(
        rng.normal(0, _SPREAD, (_TURNS, vocab_size, vocab_size)), dtype=torch.float32
    )

    def logits(ids: Sequence[Any]) -> torch.Tensor:
        return table[len(ids) % _TURNS, int(ids[-1])].clone()

    return logits


@dataclasses.dataclass(frozen=True)
class _Given:
    """One text to decode."""

    target: Logits
    draft: Logits
    prompt: Prefix
    k: int
    new_tokens: int

    def fault(self, sampler: Sampler, expected: PrefixTree) -> SamplerFailure | None:
        """What is wrong with the distribution of the text; None where nothing is."""
        gap = distribution_gap(
            self._distribution(sampler), expected, self.new_tokens - 1, TOLERANCE
        )
        if gap is None:
            return None
        return SamplerFailure(
            f"it emits {list(gap.prefix)} with probability {gap.got:.6g} instead of "
            f"{gap.expected:.6g} (total variation {gap.total_variation:.2g} over texts of "
            f"{len(gap.prefix)})"
        )

    def _distribution(self, sampler: Sampler) -> Distribution:
        distribution: Distribution = {}
        with PathFollower(sampler) as following:
            for emitted, weight in following.runs(
                lambda generator: self._emitted(sampler, generator)
            ):
                for tokens, share in outcomes(emitted):
                    distribution[tokens] = distribution.get(tokens, 0.0) + share * weight
        total = math.fsum(distribution.values())
        if not abs(total - 1) < TOLERANCE:
            raise ContractError(f"its paths have probability {total:.6g} in all; return every text")
        return distribution

    def _emitted(self, sampler: Sampler, generator: Any) -> list[Any]:
        given = (self.target, self.draft, list(self.prompt), self.k, self.new_tokens)
        emitted = emitted_tokens(sampler.run(given, generator))[: self.new_tokens]
        vocabulary = len(self.target(self.prompt))
        if not emitted or not all(0 <= int(token) < vocabulary for token in emitted):
            raise ContractError(f"it returned {emitted}; return token ids below {vocabulary}")
        return [int(token) for token in emitted]
