"""The sampled distribution test: evidence of expectation one, power as stated, and rounds drawn as
the sampler is to see them.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding import verification as rules
from pytest_specdec.lossless.samplers.dirichlet_evidence import (
    CONCENTRATIONS,
    detectable,
    log_bets,
    log_evidence,
)
from pytest_specdec.lossless.samplers.prefix_tree import PrefixTree
from pytest_specdec.lossless.samplers.sampled import FIRST_LOT, sampled_distribution_test
from pytest_specdec.lossless.samplers.sampled_rounds import BATCH, SampledRounds, decoded
from pytest_specdec.lossless.samplers.sampler import ContractError, Sampler
from pytest_specdec.lossless.samplers.seed_and_row_checks import check_rows, check_seed

P, Q = (0.5, 0.3, 0.2), (0.2, 0.2, 0.6)
FLAT = PrefixTree([P]), PrefixTree([Q])
ALPHA = 1e-6


def random_tree(seed: int, vocabulary: int, zeros: bool = False) -> PrefixTree:
    def distribution(prefix: tuple[int, ...]) -> list[float]:
        weights = np.random.default_rng([seed, len(prefix), *prefix]).gamma(1.0, size=vocabulary)
        if zeros:
            weights[(seed + sum(prefix)) % vocabulary] = 0
        return (weights / weights.sum()).tolist()

    return PrefixTree(distribution)


def batch(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    """Rejection sampling in batches, as it should be."""
    accepted, last = rules.rejection(
        target, torch.cat([draft, 0 * target[:, :1]], 1), tokens, generator
    )
    kept = torch.where(
        torch.arange(target.shape[1]) < accepted[:, None], torch.cat([tokens, tokens[:, :1]], 1), -1
    )
    return kept.scatter(1, accepted[:, None], last[:, None])


def single(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> list[int]:
    return [
        token
        for token in batch(target[None], draft[None], tokens[None], generator)[0].tolist()
        if token >= 0
    ]


def with_numpy(
    target: np.ndarray, draft: np.ndarray, tokens: np.ndarray, rng: np.random.Generator
) -> list[int]:
    for at, token in enumerate(tokens):
        if rng.random() * draft[at, token] >= target[at, token]:
            residual = np.maximum(target[at] - draft[at], 0)
            return [
                *tokens[:at].tolist(),
                int(rng.choice(len(residual), p=residual / residual.sum())),
            ]
    return [*tokens.tolist(), int(rng.choice(target.shape[1], p=target[-1]))]


def resampled(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    """Recovered tokens from p in place of the residual."""
    accepted, _ = rules.rejection(
        target, torch.cat([draft, 0 * target[:, :1]], 1), tokens, generator
    )
    last = torch.multinomial(target[torch.arange(len(target)), accepted], 1, generator=generator)[
        :, 0
    ]
    kept = torch.where(
        torch.arange(target.shape[1]) < accepted[:, None], torch.cat([tokens, tokens[:, :1]], 1), -1
    )
    return kept.scatter(1, accepted[:, None], last[:, None])


def batched(verify: Callable[..., Any], **options: Any) -> Sampler:
    return Sampler(verify, batched=True, **options)


def counting(trees: tuple[PrefixTree, PrefixTree], k: int, tokens: Any) -> SampledRounds:
    """As if these tokens had been drawn."""
    given = SampledRounds(batched(batch), *trees, k, 0)
    given.tokens = np.array(tokens)
    return given


# The evidence


@pytest.mark.parametrize(
    "target",
    [PrefixTree([(0.7, 0.3), (0.2, 0.8)]), random_tree(1, 2), PrefixTree([(0.4, 0.6), (1, 0)])],
)
def test_the_evidence_has_expectation_one_under_the_target(target: PrefixTree) -> None:
    """Over all outcomes of four rounds of two tokens."""
    rounds = list(itertools.product(range(2), repeat=2))
    total = 0.0
    for outcome in itertools.product(rounds, repeat=4):
        chance = math.prod(target.row(())[a] * target.row((a,))[b] for a, b in outcome)
        if chance > 0:
            total += chance * math.exp(
                log_evidence(counting((target, target), 1, outcome).levels())
            )
    assert total == pytest.approx(1, abs=1e-6)  # the distributions are rounded to float32


def test_a_bet_is_the_product_of_its_predictions() -> None:
    distribution, seen = np.array([0.5, 0.3, 0.2]), [0, 2, 2, 1, 2]
    bets = []
    for c in CONCENTRATIONS:
        counts, bet = np.zeros(3), 1.0
        for token in seen:
            bet *= (c * distribution + counts)[token] / (c + counts.sum()) / distribution[token]
            counts[token] += 1
        bets.append(bet)
    groups, ones = np.array([4, 4, 4, 7]), np.array([1.0, 1.0, 3.0, 1.0])
    logarithms = log_bets(groups, np.array([0.5, 0.3, 0.2, 0.1]), ones)
    assert logarithms == pytest.approx([math.log(np.mean(bets)), 0.0], abs=1e-9)


def test_bets_after_correct_prefixes_keep_at_least_the_staked_share() -> None:
    """A wrong distribution after one of 64 prefixes is seen although all others are noise."""
    target = PrefixTree(lambda prefix: (0.9, 0.1, 0.0, 0.0) if prefix == (1, 1, 1) else (0.25,) * 4)
    wrong = PrefixTree(lambda prefix: (0.25,) * 4)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 4, (20_000, 4))
    behind = (tokens[:, :3] == 1).all(1)
    tokens[behind, 3] = (rng.random(behind.sum()) < 0.6).astype(int)
    assert log_evidence(counting((wrong, wrong), 3, tokens).levels()) > math.log(1e6)
    assert log_evidence(
        counting((wrong, wrong), 3, rng.integers(0, 4, (20_000, 4))).levels()
    ) < math.log(20)
    worst = counting((target, target), 3, tokens).levels()[3]
    assert decoded(int(np.unique(worst.prefixes)[worst.bets().argmax()]), 3, 4) == (1, 1, 1)


def test_lossless_samplers_are_seldom_caught() -> None:
    """100 of them at alpha = 20 %; 36 or more alarms would have a probability of 1e-4."""

    def caught(seed: int) -> bool:
        trees = random_tree(seed, 3, seed % 2 == 0), random_tree(seed + 1000, 3)
        return sampled_distribution_test(
            batched(batch), *trees, 1 + seed % 3, alpha=0.2, draws=2000, seed=seed
        ).caught

    assert stats.binom.sf(35, 100, 0.2) < 2e-4
    assert sum(map(caught, range(100))) < 36


# Power


@pytest.mark.parametrize(("support", "draws"), [(2, 20_000), (4, 2_000), (16, 200_000)])
def test_the_stated_total_variation_is_found(support: int, draws: int) -> None:
    """In the worst direction 95 times in 100; a third of it hardly ever."""
    smallest = detectable(draws, support, ALPHA, 1)
    distribution = np.full(support, 1 / support)
    direction = np.where(np.arange(support) % 2, 1, -1) * 2 / support
    rng, zeros = np.random.default_rng(0), np.zeros(support)

    def number_found(variation: float) -> int:
        counts = rng.multinomial(draws, distribution + variation * direction, 300)
        return sum(
            log_bets(zeros, distribution, row.astype(float))[0] >= math.log(2 / ALPHA)
            for row in counts
        )

    assert 270 <= number_found(smallest) < 300
    assert number_found(smallest / 3) < 3


def test_more_rounds_find_smaller_biases() -> None:
    assert detectable(10**6, 4, ALPHA, 3) < detectable(10**4, 4, ALPHA, 3) / 5
    assert (
        detectable(10**4, 4, ALPHA, 1)
        < detectable(10**4, 4, ALPHA, 5)
        == detectable(10**4, 4, ALPHA / 3, 1)
    )
    assert detectable(5, 4, ALPHA, 3) == 1


def test_recovered_tokens_from_the_target_are_caught_early() -> None:
    result = sampled_distribution_test(batched(resampled), *FLAT, 2, alpha=ALPHA, draws=50_000)
    assert result.caught
    assert result.draws == FIRST_LOT
    assert len(result.prefix) == 1
    assert result.expected == pytest.approx(P[result.prefix[0]])
    # P(accepted) q-wise plus P(rejected) p: 0.2, 0.2, 0.2 and 0.4 p
    assert result.got == pytest.approx(0.2 + 0.4 * P[result.prefix[0]], abs=0.06)
    assert result.total_variation == pytest.approx(0.1, abs=0.06)
    assert f"{list(result.prefix)} was emitted with probability" in result.message
    assert "evidence" in result.message


def test_lots_double_until_the_last_round() -> None:
    sizes: list[int] = []

    def counted(target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        sizes.append(len(target))
        return batch(target, draft, tokens)

    result = sampled_distribution_test(batched(counted), *FLAT, 1, alpha=ALPHA, draws=11_000)
    assert sizes == [1000, 1000, 2000, 4000, 3000]
    assert max(sizes) < BATCH
    assert not result.caught
    assert (result.draws, result.detectable) == (11_000, detectable(11_000, 3, ALPHA, 1))
    assert (
        result.message
        == f"11,000 rounds show no bias; one of {result.detectable:.2g} in total variation would "
        "have been found"
    )


def test_a_bias_at_the_second_token_names_it() -> None:
    """Behind token 1 alone the sampler takes another distribution."""

    def verify(
        target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
    ) -> torch.Tensor:
        target = target.clone()
        target[tokens[:, 0] == 1, 1] = torch.tensor([0.1, 0.1, 0.8])
        return batch(target, draft, tokens, generator)

    result = sampled_distribution_test(
        batched(verify), PrefixTree([P]), PrefixTree([(0.2, 0.6, 0.2)]), 2, alpha=ALPHA
    )
    assert result.caught
    assert result.prefix == (1, 2)
    assert result.expected == pytest.approx(0.3 * 0.2)
    assert result.got == pytest.approx(0.3 * 0.8, abs=0.03)


def test_a_token_that_the_target_never_emits_is_infinite_evidence() -> None:
    def verify(
        target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
    ) -> torch.Tensor:
        emitted = batch(target, draft, tokens, generator)
        emitted[0, 0], emitted[0, 1:] = 1, -1
        return emitted

    trees = PrefixTree([(0.6, 0.0, 0.4)]), PrefixTree([(0.6, 0.2, 0.2)])
    result = sampled_distribution_test(batched(verify), *trees, 1, alpha=1e-300)
    assert result.caught
    assert result.e_value == math.inf
    assert (result.prefix, result.expected, result.got) == ((1,), 0.0, 0.001)
    assert result.message == "it emitted [1], which the target never does, in 0.001 of 1,000 rounds"


def noise_used_again(
    target: torch.Tensor, draft: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    """vllm#47386, one draft: recovery races with the exponential variables of the draft."""
    noise = torch.empty(draft.shape).exponential_(generator=generator)
    drafts = (draft / noise).argmax(-1)
    p, q = (
        distributions[:, :1].gather(-1, drafts[..., None])[..., 0]
        for distributions in (target, draft)
    )
    recovered = ((target[:, :1] - draft).clamp(min=0) / noise).argmax(-1)
    return torch.where(torch.rand(p.shape, generator=generator) * q < p, drafts, recovered)


def test_the_noise_of_the_draft_used_again_is_caught() -> None:
    logits = np.random.default_rng(0).normal(size=16)
    target, draft = (
        PrefixTree([(np.exp(logits_of) / np.exp(logits_of).sum()).tolist()])
        for logits_of in (logits, -logits)
    )
    assert sampled_distribution_test(
        batched(noise_used_again, drafts="own"), target, draft, 1, alpha=ALPHA, draws=50_000
    ).caught
    with pytest.raises(RequestError, match="give distributions by position"):
        sampled_distribution_test(
            batched(noise_used_again, drafts="own"), random_tree(1, 16), draft, 1, alpha=ALPHA
        )


# How rounds are drawn


def own_rounds(target: torch.Tensor, draft: torch.Tensor, generator: Any = None) -> list[int]:
    return single(target, draft, torch.multinomial(draft, 1, generator=generator)[:, 0], generator)


def listed(*arguments: Any, generator: Any = None) -> list[list[int]]:
    return [[token for token in row if token >= 0] for row in batch(*arguments, generator).tolist()]


def in_numpy(
    target: np.ndarray, draft: np.ndarray, tokens: np.ndarray, rng: np.random.Generator
) -> list[list[int]]:
    return [
        with_numpy(*arguments_of_row, rng)
        for arguments_of_row in zip(target, draft, tokens, strict=True)
    ]


@pytest.mark.parametrize(
    "sampler",
    [
        Sampler(single),
        Sampler(with_numpy),
        batched(listed),
        batched(in_numpy),
        Sampler(own_rounds, drafts="own"),
        Sampler(single, dtype=torch.bfloat16),
        batched(batch, dtype=torch.float64),
    ],
    ids=["single", "numpy", "lists", "batched numpy", "own drafts", "bfloat16", "float64"],
)
def test_lossless_samplers_of_every_kind_pass(sampler: Sampler) -> None:
    trees = FLAT if sampler.drafts == "own" else (random_tree(1, 3, True), random_tree(2, 3))
    result = sampled_distribution_test(sampler, *trees, 2, alpha=ALPHA, draws=2000)
    assert not result.caught
    assert result.draws == 2000


def test_single_and_batched_calls_see_the_distributions_along_their_drafts() -> None:
    target, draft, seen = random_tree(1, 3), random_tree(2, 3), set()

    def accepting(p: torch.Tensor, q: torch.Tensor, tokens: torch.Tensor) -> list[int]:
        drafts = tuple(tokens.tolist())
        seen.add(drafts)
        torch.testing.assert_close(p, torch.tensor(target.rows(drafts)))
        torch.testing.assert_close(q, torch.tensor(draft.rows(drafts)[:-1]))
        return [*drafts, 0]

    def all_accepting(*arguments: torch.Tensor) -> list[list[int]]:
        return [accepting(*single_rounds) for single_rounds in zip(*arguments, strict=True)]

    single_rounds, batched_rounds = (
        SampledRounds(sampler, target, draft, 2, 5)
        for sampler in (Sampler(accepting), batched(all_accepting))
    )
    single_rounds.more(300)
    batched_rounds.more(300)
    assert len(seen) >= 8
    assert sorted(single_rounds.tokens.tolist()) == sorted(batched_rounds.tokens.tolist())
    counts = np.bincount(single_rounds.tokens[:, 0], minlength=3)
    assert stats.chisquare(counts, 300 * np.array(draft.row(()))).pvalue > 1e-6


def test_rounds_are_continued_by_the_target() -> None:
    target = random_tree(3, 3)
    given = SampledRounds(Sampler(lambda p, q, tokens: [2]), target, target, 2, 0)
    given.more(5000)
    for depth, level in enumerate(given.levels()[1:], 1):
        for code in np.unique(level.prefixes):
            here = level.prefixes == code
            distribution = np.array(target.row(decoded(int(code), depth, 3)))
            assert (
                stats.chisquare(level.counts[here], level.counts[here].sum() * distribution).pvalue
                > 1e-6
            )


def test_the_same_seed_gives_the_same_test_and_random_states_stay_as_they_were() -> None:
    def globally(target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor) -> list[int]:
        np.random.random()
        random.random()
        return single(target, draft, tokens)

    def states() -> list[Any]:
        return [
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
        ]

    before = states()
    for sampler in (Sampler(globally), batched(batch)):
        first, again, other = (
            sampled_distribution_test(sampler, *FLAT, 1, alpha=ALPHA, draws=500, seed=seed)
            for seed in (1, 1, 2)
        )
        assert first == again != other
    assert states() == before


WRONG = {
    r"it returned tokens of shape \(1000, 3\) for 1000 rows": lambda p, q, t: [[0, 0, 0]] * len(p),
    r"it returned tokens of shape \(999, 2\) for 1000 rows": lambda p, q, t: batch(p, q, t)[1:],
    "it returned tokens NoneType for 1000 rows": lambda p, q, t: None,
    "it returned tokens of type float32; return whole numbers": lambda p, q, t: batch(
        p, q, t
    ).float(),
    "row 0 of a batch of 1000 emitted .*, but 7 is not a valid token id": lambda p, q, t: (
        torch.full((len(p), 2), 7)
    ),
    "row 0 of a batch of 1000 emitted .*, but -1 is not a valid token id": lambda p, q, t: (
        torch.tensor([[-1, 0]] * len(p))
    ),
    "emitted 0 tokens": lambda p, q, t: torch.full((len(p), 2), -1),
    "return the first drafts": lambda p, q, t: torch.stack([1 - t[:, 0].clamp(max=1), t[:, 0]], 1),
    "it changed its argument target_probs; clone it": lambda p, q, t: batch(p.mul_(0.5), q, t),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_no_batch_can_emit_is_refused(message: str) -> None:
    with pytest.raises(ContractError, match=message):
        sampled_distribution_test(batched(WRONG[message]), *FLAT, 1, alpha=ALPHA)


def test_single_calls_are_refused_too() -> None:
    with pytest.raises(ContractError, match="it changed its argument draft_probs"):
        sampled_distribution_test(
            Sampler(lambda p, q, t: single(p, q.zero_(), t)), *FLAT, 1, alpha=ALPHA
        )
    with pytest.raises(ContractError, match="but 3 is not a valid token id"):
        sampled_distribution_test(Sampler(lambda p, q, t: [3]), *FLAT, 1, alpha=ALPHA)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "give at least one draft"),
        ({"draft": PrefixTree([(0.5, 0.5)])}, "over the same tokens"),
        ({"alpha": 1.0}, "choose alpha between 0 and 1"),
        ({"draws": 0}, "one draw or more"),
        ({"k": 45}, "choose a smaller k"),
        ({"target": PrefixTree(lambda prefix: (1.0,) if prefix else P)}, "give one length"),
    ],
)
def test_senseless_requests_are_refused(change: dict[str, Any], message: str) -> None:
    whole = {"target": FLAT[0], "draft": FLAT[1], "k": 1, "alpha": ALPHA} | change
    with pytest.raises(RequestError, match=message):
        sampled_distribution_test(batched(batch), **whole)


# Manners

ALL = [
    batched(batch),
    batched(in_numpy),
    Sampler(single),
    Sampler(with_numpy),
    Sampler(own_rounds, drafts="own"),
]


@pytest.mark.parametrize(
    "sampler", ALL, ids=["batched", "batched numpy", "single", "numpy", "own drafts"]
)
def test_lossless_samplers_treat_rows_and_seeds_as_they_must(sampler: Sampler) -> None:
    before = torch.get_rng_state()
    for seed in range(3):
        check_seed(sampler, seed)
        check_rows(sampler, seed)
    assert torch.equal(before, torch.get_rng_state())
    check_seed(batched(lambda p, q, t: batch(p, q, t)))


def test_a_seed_that_is_not_heeded_is_noticed() -> None:
    hidden = torch.Generator()

    def unheeding(target: Any, draft: Any, tokens: Any, generator: Any = None) -> torch.Tensor:
        return batch(target, draft, tokens)

    def fixed(target: Any, draft: Any, tokens: Any, generator: Any = None) -> torch.Tensor:
        return batch(target, draft, tokens, hidden.manual_seed(7))

    def each_round_alike(target: Any, draft: Any, tokens: Any, generator: Any = None) -> list[int]:
        return single(target, draft, tokens, hidden.manual_seed(generator.initial_seed()))

    def rows_alike(target: Any, draft: Any, tokens: Any, generator: Any = None) -> torch.Tensor:
        return batch(target[:1], draft[:1], tokens[:1], generator).expand(len(target), -1)

    for verify, message in (
        (unheeding, "other tokens for the same seed; draw all"),
        (fixed, "the same tokens for two seeds"),
    ):
        with pytest.raises(ContractError, match=message):
            check_seed(batched(verify))
    for sampler in (Sampler(each_round_alike), batched(rows_alike)):
        with pytest.raises(
            ContractError, match="in each of 9 rounds; make new draws in each round and each row"
        ):
            check_seed(sampler)


def tile_padded(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    """Recovered tokens by a race over blocks of 8, whose empty lanes have a little mass."""
    lanes = -target.shape[2] % 8
    p, q = (
        torch.nn.functional.pad(distributions, (0, lanes), value=fill)
        for distributions, fill in ((target, 1e-2), (draft, 0.0))
    )
    return batch(p, q, tokens, generator)


def greedy_rows_sampled(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    """One-hot rows lose their meaning beside sampled ones, as if a temperature of 0 became 1."""
    return batch((target + 1e-3) / (target + 1e-3).sum(-1, keepdim=True), draft, tokens, generator)


def rows_shifted(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    return batch(target.roll(1, 0), draft, tokens, generator)


def all_greedy(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    """One greedy row makes the whole batch greedy."""
    if (target.amax(-1) == 1).any():
        target = torch.nn.functional.one_hot(target.argmax(-1), target.shape[-1]).to(target)
    return batch(target, draft, tokens, generator)


@pytest.mark.parametrize(
    ("verify", "message"),
    [
        (
            tile_padded,
            r"row \d+ of a batch of 64 emitted .* is not a valid token id; return ids from 0 to",
        ),
        (
            greedy_rows_sampled,
            r"row \d+ of 64, a .* emitted .*, where its distribution gives token \d+ probability "
            r"0; read every",
        ),
        (rows_shifted, "where its distribution gives token"),
        (
            all_greedy,
            "beside rows of other distributions, those with a target without its last tokens "
            "follow another distribution",
        ),
    ],
)
def test_rows_that_are_not_kept_apart_are_noticed(
    verify: Callable[..., torch.Tensor], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        check_rows(batched(verify))


def test_unbatched_samplers_stay_in_the_vocabulary_too() -> None:
    def padded(target: Any, draft: Any, tokens: Any, generator: Any = None) -> list[int]:
        return [
            token
            for token in tile_padded(target[None], draft[None], tokens[None], generator)[0].tolist()
            if token >= 0
        ]

    with pytest.raises(ContractError, match="is not a valid token id; return ids from 0 to"):
        check_rows(Sampler(padded))


def test_one_wrong_token_in_a_certain_distribution_is_seen_95_times_in_100() -> None:
    least = detectable(4000, 1, 0.01, 3)
    assert 1 - (1 - least) ** 4000 == pytest.approx(0.95)
