"""The exact distribution of transformers' sampler: how long it takes, and how far off it is.

pytest benchmarks/test_exact_law.py -s
"""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from transformers.generation.utils import _speculative_sampling

from pytest_specdec.lossless import output_distribution
from pytest_specdec.lossless.samplers.exact import distribution_gap
from pytest_specdec.lossless.samplers.prefix_tree import PrefixTree


def transformers_sampler(
    target_probs: torch.Tensor, draft_probs: torch.Tensor, draft_tokens: torch.Tensor
) -> torch.Tensor:
    return _speculative_sampling(
        draft_tokens[None], draft_probs.log()[None], len(draft_tokens), target_probs.log()[None]
    )[0][0]


def random_distributions(vocab_size: int, seed: int) -> PrefixTree:
    """Another distribution behind every prefix."""

    def distribution(prefix: tuple[int, ...]) -> list[float]:
        logits = 1.5 * np.random.default_rng([seed, *prefix]).normal(size=vocab_size)
        return (np.exp(logits) / np.exp(logits).sum()).tolist()

    return PrefixTree(distribution)


@pytest.mark.parametrize(("vocab_size", "k", "seconds"), [(4, 3, 0.5), (6, 4, 20.0)])
def test_the_distribution_of_transformers_sampler(vocab_size: int, k: int, seconds: float) -> None:
    output_distribution(
        transformers_sampler, random_distributions(2, 0), random_distributions(2, 1), 1
    )  # imports and first calls
    target, draft = random_distributions(vocab_size, 0), random_distributions(vocab_size, 1)
    start = time.perf_counter()
    distribution = output_distribution(transformers_sampler, target, draft, k)
    error = distribution_gap(distribution, target, k, 0.0)
    taken = time.perf_counter() - start
    assert error is not None, "float32 leaves some error"
    print(
        f"\nvocabulary {vocab_size}, k {k}: {len(distribution)} outcomes in {taken:.2f} s, "
        "largest error of a probability "
        f"{abs(error.got - error.expected):.1e} at {error.prefix}"
    )
    assert taken < seconds
    assert distribution_gap(distribution, target, k, 2e-6) is None
