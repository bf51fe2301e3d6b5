"""The distribution tests of vLLM, TensorRT-LLM and transformers, given a museum's sampler in the
place of theirs.

Sizes, distributions, statistics and thresholds are theirs; seeds are fixed. They draw the drafts
and see the verifier only, but for vLLM's newest, which drafts with production code: a whole round
that drafts for itself is run as it is, which is more than they do today.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from museum.mutants import Mutant
from torch import Tensor

SEED = 42
ROWS = 256
"""Rounds drawn at a time for a wide vocabulary."""
Sees = Callable[[Mutant], bool]
"""Whether a test fails, that is, sees what is wrong."""


def seen(test: Sees, mutant: Mutant) -> bool:
    """A sampler that raises fails a test, too."""
    try:
        return test(mutant)
    except (RuntimeError, IndexError):
        return True


def vllm_distance(mutant: Mutant) -> bool:
    """test_rejection_sampling_approximates_target_distribution: V = 10, k = 2, distances at 10 and
    100,000 rounds.

    Must come closer to the target 20 times as much as to random distributions. Bonus tokens are
    left out.
    """
    seeded = torch.Generator().manual_seed(SEED)
    q, p = (torch.rand(10, generator=seeded).softmax(0) for _ in range(2))
    others = torch.rand(100, 10, generator=seeded).softmax(-1)
    to_target, to_others = [], []
    for rounds in (10, 100_000):
        tokens = emitted(mutant, p.expand(3, 10), q.expand(2, 10), rounds, seeded)[:, :-1].flatten()
        histogram = torch.histogram(tokens.float(), bins=10, range=(0, 10), density=True).hist
        to_target.append(torch.dist(p, histogram).item())
        to_others.append(torch.dist(others, histogram.expand(100, 10)).item() / 100)
    return not to_target[0] / to_target[1] > 20 * to_others[0] / to_others[1]


def vllm_wide(mutant: Mutant) -> bool:
    """test_stochastic_rejection_sample: V = 4096, k = 3, T = 1, 40,960 rounds, chi-square at 10
    sigma by position.
    """
    seeded = torch.Generator().manual_seed(SEED)
    p, q = (torch.randn(4096, generator=seeded).softmax(0) for _ in range(2))
    return _fits_not(mutant, p, q, 10 * 4096, seeded)


def vllm_narrow(mutant: Mutant) -> bool:
    """test_gumbel_drafted_rejection_sample_is_unbiased: V = 16, k = 3, q opposed to p, 200,000
    rounds, same threshold.
    """
    seeded = torch.Generator().manual_seed(SEED)
    logits = torch.randn(16, generator=seeded)
    return _fits_not(mutant, logits.softmax(0), (-logits).softmax(0), 200_000, seeded)


def tensorrt_llm(mutant: Mutant) -> bool:
    """test_get_rejected_indices: V = 500, 100 of them possible, k = 1, 50,000 rounds, difference of
    two KL below 0.01.
    """
    seeded = torch.Generator().manual_seed(SEED)
    q, p, bonus = (torch.rand(500, generator=seeded) for _ in range(3))
    for distribution in (q, p):
        distribution[distribution.topk(400, largest=False).indices] = 0.0
    q, p, bonus = (distribution / distribution.sum() for distribution in (q, p, bonus))
    tokens = emitted(mutant, torch.stack([p, bonus]), q[None], 50_000, seeded)[:, 0]
    plain = torch.multinomial(p, 50_000, replacement=True, generator=seeded)
    return not abs(_divergence(p, tokens) - _divergence(p, plain)) < 0.01


def transformers(mutant: Mutant) -> bool:
    """test_speculative_sampling_target_distribution: V = 10, drafts 1, 4, 5 with logits of +-10,
    10,000 rounds.

    The first two must be accepted, the third not; what follows must be 1, 3, 7 or 8, in the right
    order of counts.
    """
    seeded = torch.Generator().manual_seed(SEED)
    drafts = torch.tensor([1, 4, 5])
    q = torch.full((3, 10), -10.0).scatter(1, drafts[:, None], 10.0).softmax(-1)
    logits = torch.full((4, 10), -math.inf)
    logits[0, 1] = logits[1, 4] = logits[3, 5] = 10.0
    logits[2, [1, 3, 7, 8]] = torch.tensor([2.0, 1.0, -0.01, 2.0])
    tokens = emitted(mutant, logits.softmax(-1), q, 10_000, seeded, drafts)
    possible = torch.isin(tokens[:, 2], torch.tensor([1, 3, 7, 8]))
    if not ((tokens[:, 0] == 1) & (tokens[:, 1] == 4) & possible & (tokens[:, 3] < 0)).all():
        return True
    counts = tokens[:, 2].bincount(minlength=10)
    return not (counts[1] > counts[3] > counts[7] > 0 and counts[8] > counts[3])


def emitted(
    mutant: Mutant,
    p: Tensor,
    q: Tensor,
    rounds: int,
    generator: torch.Generator,
    drafts: Tensor | None = None,
) -> Tensor:
    """(rounds, k + 1) emitted tokens of rounds with the same distributions (k + 1, V) and (k, V),
    drawn a few at a time.
    """
    rows = ROWS if p.shape[-1] > 1000 else rounds
    parts = [
        _emitted(mutant, p, q, min(rows, rounds - start), generator, drafts)
        for start in range(0, rounds, rows)
    ]
    return torch.cat(parts)


def _emitted(
    mutant: Mutant,
    p: Tensor,
    q: Tensor,
    rows: int,
    generator: torch.Generator,
    drafts: Tensor | None,
) -> Tensor:
    distributions = p.expand(rows, *p.shape).contiguous(), q.expand(rows, *q.shape).contiguous()
    if mutant.drafts == "own":
        return mutant.in_batches(*distributions, generator=generator)
    tokens = _drafted(q, rows, generator) if drafts is None else drafts.expand(rows, -1)
    if not mutant.one_by_one:
        return mutant.in_batches(*distributions, tokens, generator=generator)
    different, which = tokens.unique(
        dim=0, return_inverse=True
    )  # what is drawn depends on nothing else
    outputs = [
        mutant.in_batches(p[None].clone(), q[None].clone(), row[None], generator=generator)
        for row in different
    ]
    return torch.cat(outputs)[which]


def _drafted(q: Tensor, rows: int, generator: torch.Generator) -> Tensor:
    """(rows, k): drafts of distributions that are the same for all rows."""
    return torch.stack(
        [
            torch.multinomial(distribution, rows, replacement=True, generator=generator)
            for distribution in q
        ],
        1,
    )


def _fits_not(
    mutant: Mutant, p: Tensor, q: Tensor, rounds: int, generator: torch.Generator
) -> bool:
    """Chi-square of the tokens at each of four positions, of the rounds that reach it."""
    vocab_size = len(p)
    tokens = emitted(mutant, p.expand(4, vocab_size), q.expand(3, vocab_size), rounds, generator)
    return any(_misfit(column[column >= 0], p) for column in tokens.T)


def _misfit(tokens: Tensor, p: Tensor) -> bool:
    """Bins that expect fewer than 5 are merged. Raises IndexError for tokens past the
    vocabulary.
    """
    if len(tokens) == 0:
        return False
    if tokens.max() >= len(p):
        raise IndexError("a token past the vocabulary")
    counts, wanted = tokens.bincount(minlength=len(p)).double(), p.double() * len(tokens)
    large = wanted >= 5
    seen, expected = counts[large], wanted[large]
    if wanted[~large].sum() >= 5:
        seen, expected = (
            torch.cat([some, every[~large].sum()[None]])
            for some, every in ((seen, counts), (expected, wanted))
        )
    df = len(seen) - 1
    chi2 = ((seen - expected) ** 2 / expected).sum().item()
    return df >= 1 and not chi2 < df + 10 * math.sqrt(2 * df)


def _divergence(p: Tensor, tokens: Tensor) -> float:
    """KL(p, frequencies) over tokens that p allows; infinite where one never came."""
    counts = tokens[(tokens >= 0) & (tokens < len(p))].bincount(minlength=len(p))
    shares = counts / counts.sum()
    possible = p > 0
    return (p[possible] * (p[possible] / shares[possible]).log()).sum().item()


VLLM: dict[str, Sees] = {"L2": vllm_distance, "wide": vllm_wide, "narrow": vllm_narrow}
