"""The exact distribution of a sampler, however it draws."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from transformers.generation.utils import _speculative_sampling

from pytest_specdec.common.errors import RequestError
from pytest_specdec.lossless import output_distribution
from pytest_specdec.lossless.enumeration.paths import MOST_PATHS, NotEnumerableError
from pytest_specdec.lossless.samplers.exact import Distribution, RoundInput, distribution_gap
from pytest_specdec.lossless.samplers.prefix_tree import PrefixTree
from pytest_specdec.lossless.samplers.sampler import ContractError, Sampler
from pytest_specdec.lossless.samplers.strategies import rounds

Verify = Callable[..., Any]


def tree(vocab_size: int, seed: int, zeros: float = 0.3) -> PrefixTree:
    """Another distribution after every prefix."""

    def distribution(prefix: tuple[int, ...]) -> list[float]:
        rng = np.random.default_rng([seed, *prefix])
        weights = np.exp(1.5 * rng.normal(size=vocab_size)) * (rng.random(vocab_size) > zeros)
        weights[0] += weights.sum() == 0
        return (weights / weights.sum()).tolist()

    return PrefixTree(distribution)


def rest(p: Tensor, q: Tensor) -> Tensor:
    left = (p - q).clamp(min=0)
    return left if left.sum() > 0 else p


def leading(p: Tensor, q: Tensor, drafts: Tensor, ok: Tensor) -> tuple[list[int], Tensor]:
    """The accepted drafts, and the distribution of the token after them."""
    kept = int(ok.long().cumprod(0).sum())
    return drafts[:kept].tolist(), rest(p[kept], q[kept]) if kept < len(q) else p[-1]


def ratio(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
    steps = torch.arange(len(drafts))
    return p[steps, drafts] / q[steps, drafts]


def plain(
    p: Tensor, q: Tensor, drafts: Tensor, generator: torch.Generator | None = None
) -> list[int]:
    """A plain function with one torch.rand(()) for each draft."""
    for step, token in enumerate(drafts.tolist()):
        if torch.rand((), generator=generator) >= p[step, token] / q[step, token]:
            last = torch.multinomial(rest(p[step], q[step]), 1, generator=generator)
            return [*drafts[:step].tolist(), int(last)]
    return [*drafts.tolist(), torch.multinomial(p[-1], 1, generator=generator).item()]


def numbers(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    """Python's numbers, taken out of tensors."""
    for step, token in enumerate(drafts.tolist()):
        if not torch.rand(1).item() < (p[step, token] / q[step, token]).item():
            return [*drafts[:step].tolist(), int(torch.multinomial(rest(p[step], q[step]), 1))]
    return [*drafts.tolist(), int(torch.multinomial(p[-1], 1))]


def vectorised(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
    kept, distribution = leading(p, q, drafts, torch.rand_like(p[:-1, 0]) < ratio(p, q, drafts))
    return torch.cat([drafts[: len(kept)], torch.multinomial(distribution, 1)])


def greater(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    uniforms = torch.empty(len(drafts)).uniform_()
    kept, distribution = leading(p, q, drafts, torch.where(uniforms > ratio(p, q, drafts), 0, 1))
    return [*kept, *torch.multinomial(distribution, 1).tolist()]


def log_space(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    steps = torch.arange(len(drafts))
    log_ratio = p[steps, drafts].log() - q[steps, drafts].log()
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)).log() < log_ratio)
    return [*kept, torch.multinomial(distribution, 1).item()]


def bernoulli(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    kept, distribution = leading(
        p, q, drafts, torch.bernoulli(ratio(p, q, drafts).clamp(max=1)).bool()
    )
    return [*kept, torch.multinomial(distribution, 1).item()]


def exponential_race(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)) < ratio(p, q, drafts))
    return [*kept, (distribution / torch.empty_like(distribution).exponential_()).argmax(-1).item()]


def gumbel_race(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)) < ratio(p, q, drafts))
    noise = -torch.log(-torch.log(torch.rand_like(distribution) + 1e-10) + 1e-10)
    return [*kept, (distribution.log() + noise).argmax().item()]


def inverted(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)) < ratio(p, q, drafts))
    sums = distribution.cumsum(0)
    return [*kept, int((sums <= torch.rand(()) * sums[-1]).sum())]


def searched(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)) < ratio(p, q, drafts))
    sums = distribution.cumsum(0)
    return [*kept, torch.searchsorted(sums, torch.rand(1) * sums[-1], right=True).item()]


def searched_by_keyword(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)) < ratio(p, q, drafts))
    sums = distribution.cumsum(0)
    draw = torch.rand(1) * sums[-1]
    return [*kept, torch.searchsorted(sorted_sequence=sums, input=draw, right=True).item()]


def searched_by_half_a_keyword(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)) < ratio(p, q, drafts))
    sums = distribution.cumsum(0)
    return [*kept, torch.searchsorted(sums, input=torch.rand(1) * sums[-1], right=True).item()]


def in_double(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
    return vectorised(p.double(), q.double(), drafts)


def in_numpy(
    p: np.ndarray, q: np.ndarray, drafts: np.ndarray, rng: np.random.Generator
) -> list[int]:
    for step, token in enumerate(drafts):
        if rng.random() * q[step, token] >= p[step, token]:
            left = np.maximum(p[step] - q[step], 0)
            return [*drafts[:step], rng.choice(len(left), p=left / left.sum())]
    return [*drafts, np.argmax(p[-1] / rng.exponential(size=p.shape[1]))]


def vectors_of_numpy(
    p: np.ndarray, q: np.ndarray, drafts: np.ndarray, rng: np.random.Generator
) -> list[int]:
    steps = np.arange(len(drafts))
    kept = int(np.cumprod(rng.random(len(drafts)) * q[steps, drafts] < p[steps, drafts]).sum())
    sums = np.cumsum(p[-1] if kept == len(drafts) else np.maximum(p[kept] - q[kept], 0))
    return [*drafts[:kept], np.searchsorted(sums, rng.random() * sums[-1], side="right")]


def standard_library(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    for step, token in enumerate(drafts.tolist()):
        if random.random() >= p[step, token] / q[step, token]:
            return [
                *drafts[:step].tolist(),
                *random.choices(range(p.shape[1]), weights=rest(p[step], q[step]).tolist()),
            ]
    return [*drafts.tolist(), *random.choices(range(p.shape[1]), weights=p[-1].tolist())]


def sample_match(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
    sampled = torch.multinomial(p, 1)[:, 0]
    return sampled[: int((sampled[:-1] == drafts).long().cumprod(0).sum()) + 1]


def listed(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
    """Tokens as numbers in a list, made a tensor again."""
    kept, distribution = leading(p, q, drafts, torch.rand(len(drafts)) < ratio(p, q, drafts))
    return torch.tensor([*kept, torch.multinomial(distribution, 1).item()])


def from_transformers(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
    return _speculative_sampling(drafts[None], q.log()[None], len(drafts), p.log()[None])[0][0]


SAMPLERS = [
    *(
        plain,
        numbers,
        vectorised,
        greater,
        log_space,
        bernoulli,
        exponential_race,
        gumbel_race,
        inverted,
        searched,
        searched_by_keyword,
        searched_by_half_a_keyword,
    ),
    *(
        in_double,
        in_numpy,
        vectors_of_numpy,
        standard_library,
        sample_match,
        listed,
        from_transformers,
    ),
]


def error(verify: Verify, target: PrefixTree, draft: PrefixTree, k: int) -> float:
    """The largest error of the distribution, over the shortest prefixes that have one."""
    gap = distribution_gap(output_distribution(verify, target, draft, k), target, k, 0.0)
    return 0.0 if gap is None else abs(gap.expected - gap.got)


@pytest.mark.parametrize("zeros", [0.0, 0.4])
@pytest.mark.parametrize("verify", SAMPLERS, ids=lambda verify: verify.__name__)
def test_right_samplers_have_the_targets_distribution_to_rounding(
    verify: Verify, zeros: float
) -> None:
    tolerance = 1e-12 if "numpy" in verify.__name__ else 1e-7
    assert error(verify, tree(4, 0, zeros), tree(4, 1, zeros), 3) < tolerance
    assert error(verify, tree(3, 2, zeros), tree(3, 3, zeros), 1) < tolerance


@settings(max_examples=30, deadline=None)
@given(rounds((2, 5), (1, 3)))
def test_distributions_sum_to_one(drawn: RoundInput) -> None:
    assert sum(drawn.distribution(Sampler(vectorised)).values()) == pytest.approx(1, abs=1e-6)


def test_a_distribution_by_hand() -> None:
    """p = (3/4, 1/4), q = (1/4, 3/4): 1 is accepted once in three, else 0 follows."""
    distribution = output_distribution(plain, [0.75, 0.25], [0.25, 0.75], 1)
    assert distribution == pytest.approx(
        {(0, 0): 3 / 16, (0, 1): 1 / 16, (1, 0): 3 / 16, (1, 1): 1 / 16, (0,): 1 / 2}, abs=1e-7
    )


def test_a_bias_of_a_millionth_is_seen() -> None:
    def biased(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return in_double_scaled(p.double(), q.double(), drafts, 1 + 4e-6)

    def in_double_scaled(p: Tensor, q: Tensor, drafts: Tensor, factor: float) -> list[int]:
        kept, distribution = leading(
            p,
            q,
            drafts,
            torch.rand(len(drafts), dtype=torch.float64) * factor < ratio(p, q, drafts),
        )
        return [*kept, torch.multinomial(distribution, 1).item()]

    sampler = Sampler(biased, dtype=torch.float64)
    gap = distribution_gap(
        RoundInput(PrefixTree([0.5, 0.5]), PrefixTree([0.9, 0.1]), 1).distribution(sampler),
        [0.5, 0.5],
        1,
        sampler.tolerance,
    )
    assert gap is not None
    assert len(gap.prefix) == 1
    assert gap.total_variation == pytest.approx(2e-6, rel=1e-3)


def test_the_worst_of_the_shortest_wrong_prefixes_is_named() -> None:
    """Accepting everything emits the drafter's distribution, right only where the two agree."""

    def all_accepted(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return [*drafts.tolist(), torch.multinomial(p[-1], 1).item()]

    target, draft = [[0.5, 0.5], [0.75, 0.25], [1, 0]], [[0.5, 0.5], [0.25, 0.75]]
    gap = distribution_gap(output_distribution(all_accepted, target, draft, 2), target, 2, 1e-6)
    assert gap is not None
    assert (len(gap.prefix), gap.prefix[1]) == (2, 0)
    assert (gap.expected, gap.got) == pytest.approx((0.375, 0.125), abs=1e-6)
    assert gap.total_variation == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_draws_of_every_floating_type(dtype: torch.dtype) -> None:
    """A coin in any type; the distributions are compared in double."""

    def coins(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        uniforms = torch.rand(len(drafts), dtype=dtype)
        kept, distribution = leading(
            p, q, drafts, uniforms.double() < ratio(p.double(), q.double(), drafts)
        )
        return [*kept, torch.multinomial(distribution, 1).item()]

    assert error(coins, tree(3, 0), tree(3, 1), 2) < 1e-7


def test_rounding_in_half_precision_is_seen() -> None:
    def halved(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
        return vectorised(p.half(), q.half(), drafts)

    assert 1e-6 < error(halved, tree(4, 0, 0), tree(4, 1, 0), 2) < 1e-3


def test_a_sampler_that_draws_its_own_drafts() -> None:
    def whole(p: Tensor, q: Tensor) -> list[int]:
        return vectorised(p, q, torch.multinomial(q, 1)[:, 0])

    distributions = [[0.1, 0.2, 0.7], [0.5, 0.5, 0.0], [0.3, 0.3, 0.4]]
    distribution = output_distribution(
        whole, distributions, [[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]], 2, drafts="own"
    )
    assert distribution_gap(distribution, distributions, 2, 1e-6) is None
    with pytest.raises(RequestError, match="by position"):
        output_distribution(whole, tree(3, 0), distributions, 2, drafts="own")


def test_a_batched_sampler() -> None:
    def batched(p: Tensor, q: Tensor, drafts: Tensor) -> Tensor:
        padded = torch.full((len(p), p.shape[1]), -1)
        for row, tokens in enumerate(padded):
            emitted = vectorised(p[row], q[row], drafts[row])
            tokens[: len(emitted)] = emitted
        return padded

    target = tree(3, 0)
    assert (
        distribution_gap(
            output_distribution(batched, target, tree(3, 1), 2, batched=True), target, 2, 1e-6
        )
        is None
    )


def shared_noise(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    noise = torch.empty_like(p[0]).exponential_()
    first = (p[0] / noise).argmax().item()
    return [first] if first != drafts[0] else [first, (p[1] / noise).argmax().item()]


def squared_sum(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    uniforms = torch.rand(2)
    return [int(uniforms.sum() > 1)]


def normal(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    return [int(torch.randn(()) > 0)]


def noisy_twice(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
    return [int(torch.rand(()) < torch.rand(()) * 0.5)]


@pytest.mark.parametrize(
    ("verify", "name"),
    [
        (shared_noise, "exponential_ is used again"),
        (squared_sum, r"rand goes into sum\(\)"),
        (normal, r"randn\(\)"),
        (noisy_twice, "rand"),
    ],
)
def test_a_draw_that_cannot_be_followed_is_named(verify: Verify, name: str) -> None:
    with pytest.raises(NotEnumerableError, match=f'(?s){name}.*method="sampled"'):
        output_distribution(verify, [0.5, 0.5], [0.25, 0.75], 1)


def test_a_sampler_that_keeps_state_is_refused() -> None:
    calls = []

    def counting(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        calls.append(None)
        return [int(torch.rand(()) < 1 / len(calls))]

    with pytest.raises(NotEnumerableError, match="keeps state"):
        output_distribution(counting, [0.5, 0.5], [0.25, 0.75], 1)


def test_too_many_paths_are_refused() -> None:
    def wide(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return [int((torch.rand(24) < 0.5).sum()) % 2]

    with pytest.raises(NotEnumerableError, match=f"more than {MOST_PATHS}"):
        output_distribution(wide, [0.5, 0.5], [0.25, 0.75], 1)


def test_a_draw_that_bypasses_torch_is_noticed() -> None:
    compiled = torch.jit.trace(lambda p: torch.rand_like(p), torch.zeros(2), check_trace=False)

    def traced(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return [int(compiled(p[0])[0] < 0.5)]

    with pytest.raises(NotEnumerableError, match="cannot be intercepted"):
        output_distribution(traced, [0.5, 0.5], [0.25, 0.75], 1)


def test_a_draw_from_a_generator_that_nobody_watches_is_noticed() -> None:
    hidden = torch.Generator().manual_seed(1)  # as a GPU's, which a fused kernel draws from

    def fused(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        return [int(torch.ops.aten.rand.generator([1], generator=hidden) < 0.5)]

    with pytest.raises(NotEnumerableError, match="not intercepted"):
        output_distribution(fused, [0.5, 0.5], [0.25, 0.75], 1)


def test_random_states_are_left_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    output_distribution(plain, [0.5, 0.5], [0.25, 0.75], 1)
    output_distribution(standard_library, [0.5, 0.5], [0.25, 0.75], 1)
    output_distribution(vectors_of_numpy, [0.5, 0.5], [0.25, 0.75], 1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize(
    ("emitted", "message"),
    [
        ([], "emitted 0 tokens"),
        ([0, 0, 0], "emitted 3 tokens"),
        ([2], "2 is not a valid token id"),
        ([-1], "-1 is not a valid token id"),
        ([1, 0], r"for drafts \[0\]"),
        (0, "returned int"),
        ([0.5], "returned 0.5"),
    ],
)
def test_what_no_round_can_emit_is_refused(emitted: object, message: str) -> None:
    with pytest.raises(ContractError, match=f"{message}.*return"):
        output_distribution(lambda p, q, drafts: emitted, [0.5, 0.5], [1, 0], 1)


def test_arguments_must_be_left_as_they_are() -> None:
    def greedy(p: Tensor, q: Tensor, drafts: Tensor) -> list[int]:
        p[0, 0] = 0
        return [0]

    with pytest.raises(ContractError, match="changed its argument target_probs; clone"):
        output_distribution(greedy, [0.5, 0.5], [1, 0], 1)


@pytest.mark.parametrize("distribution", [[0.5, 0.6], [-0.5, 1.5], [], [math.nan, 1]])
def test_a_distribution_that_is_none_is_refused(distribution: list[float]) -> None:
    with pytest.raises(RequestError, match="give probabilities"):
        output_distribution(plain, distribution, [0.5, 0.5], 1)


def test_rounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RequestError, match="one vocabulary"):
        output_distribution(plain, [0.5, 0.5], [0.25, 0.5, 0.25], 1)
    with pytest.raises(RequestError, match="k of 1 or more"):
        output_distribution(plain, [0.5, 0.5], [0.25, 0.75], 0)


def test_distributions_may_be_tensors_mappings_and_functions() -> None:
    by_hand: Distribution = output_distribution(plain, [0.75, 0.25], [0.25, 0.75], 1)
    assert (
        output_distribution(plain, torch.tensor([0.75, 0.25]), np.array([0.25, 0.75]), 1) == by_hand
    )
    assert (
        output_distribution(
            plain, {(): [0.75, 0.25], (0,): [0.75, 0.25], (1,): [0.75, 0.25]}, [0.25, 0.75], 1
        )
        == by_hand
    )
    assert output_distribution(plain, lambda prefix: [0.75, 0.25], [[0.25, 0.75]], 1) == by_hand
