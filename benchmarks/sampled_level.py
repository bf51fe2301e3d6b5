"""The sampled distribution test's promises, shown: false alarms of lossless samplers, and rounds
until a biased one is caught.

    python benchmarks/sampled_level.py > docs/sampled.md

takes a few minutes on one thread. Every number of the page comes from this run; the seeds are
fixed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy import stats

from pytest_specdec.decoding.verification import rejection
from pytest_specdec.lossless.budget import CALL, CALLS, SESSION
from pytest_specdec.lossless.samplers.dirichlet_evidence import detectable, log_evidence
from pytest_specdec.lossless.samplers.prefix_tree import PrefixTree
from pytest_specdec.lossless.samplers.sampled import FIRST_LOT, sampled_distribution_test
from pytest_specdec.lossless.samplers.sampled_rounds import SampledRounds
from pytest_specdec.lossless.samplers.sampler import Sampler

EXAMPLES, DRAWS = 10_000, 2_000
LEVELS = (0.05, 0.01, CALL)
RUNS, K = 40, 1
FURTHEST = {0.05: 40_000, 0.02: 200_000, 0.01: 600_000, 0.005: 2_400_000}
"""Total variation, and how many rounds are drawn at most to find it."""
GROWTH = 1.2
"""Looks of the power's runs, each at so many times the rounds of the one before."""
SIGMAS = 10
STATED_RUNS, STATED_DRAWS, STATED_K = 200, 20_000, 3
Batched = Callable[..., torch.Tensor]


def lossless(
    target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
) -> torch.Tensor:
    """Rejection sampling: tokens (rows, k + 1), padded with -1."""
    behind = torch.zeros_like(target[:, :1])
    accepted, last = rejection(target, torch.cat([draft, behind], 1), tokens, generator)
    steps = torch.arange(target.shape[1])
    emitted = torch.where(steps < accepted[:, None], torch.cat([tokens, tokens[:, :1]], 1), -1)
    return emitted.scatter(1, accepted[:, None], last[:, None])


def biased(towards: list[float]) -> Batched:
    """Lossless for a target whose first distribution is another one."""

    def verify(
        target: torch.Tensor, draft: torch.Tensor, tokens: torch.Tensor, generator: Any = None
    ) -> torch.Tensor:
        target = target.clone()
        target[:, 0] = torch.tensor(towards)
        return lossless(target, draft, tokens, generator)

    return verify


def shared_noise(target: torch.Tensor, draft: torch.Tensor, generator: Any = None) -> torch.Tensor:
    """k = 1: the draft is the arg-max of q / E, the recovered token that of max(p - q, 0) / E with
    the same E.
    """
    noise = torch.empty(draft.shape).exponential_(generator=generator)
    drafts = (draft / noise).argmax(-1)
    p, q = (
        distributions[:, :1].gather(-1, drafts[..., None])[..., 0]
        for distributions in (target, draft)
    )
    accepted = torch.rand(p.shape, generator=generator) * q < p
    recovered = ((target[:, :1] - draft).clamp(min=0) / noise).argmax(-1)
    bonus = (target[:, 1:] / torch.empty(draft.shape).exponential_(generator=generator)).argmax(-1)
    return torch.cat(
        [torch.where(accepted, drafts, recovered), torch.where(accepted, bonus, -1)], 1
    )


def random_tree(rng: np.random.Generator, vocabulary: int) -> PrefixTree:
    """Every prefix has a distribution of its own, from flat to certain, some with zeros."""
    key, shape, zeros = (
        int(rng.integers(2**31)),
        float(rng.choice([0.1, 0.5, 1, 5])),
        float(rng.choice([0, 0.3])),
    )

    def distribution(prefix: tuple[int, ...]) -> list[float]:
        own = np.random.Generator(np.random.SFC64([key, len(prefix), *prefix]))
        weights = own.gamma(shape, size=vocabulary) * (own.random(vocabulary) >= zeros)
        if not weights.sum() > 0:
            weights[0] = 1.0
        return (weights / weights.sum()).tolist()

    return PrefixTree(distribution)


def level() -> Iterator[str]:
    """Table: alarms of a lossless sampler."""
    rng, sampler = np.random.default_rng(1), Sampler(lossless, batched=True)
    alarms = dict.fromkeys(LEVELS, 0)
    for example in range(EXAMPLES):
        vocabulary, k = int(rng.integers(2, 7)), int(rng.integers(1, 4))
        trees = random_tree(rng, vocabulary), random_tree(rng, vocabulary)
        for alpha in LEVELS:  # the same rounds each time: what is not caught at 5 % is not at 1 %
            if not sampled_distribution_test(
                sampler, *trees, k, alpha=alpha, draws=DRAWS, seed=example
            ).caught:
                break
            alarms[alpha] += 1
    yield "| alpha | alarms | share | 95 % interval |"
    yield "| --- | --- | --- | --- |"
    for alpha, count in alarms.items():
        interval = stats.binomtest(count, EXAMPLES).proportion_ci(method="exact")
        yield (
            f"| {alpha:.2g} | {count} | {count / EXAMPLES:.2%} | {interval.low:.2%} to "
            f"{interval.high:.2%} |"
        )


def rounds_needed(
    sampler: Sampler, target: PrefixTree, draft: PrefixTree, k: int, seed: int, furthest: int
) -> tuple[float, float]:
    """Rounds until the evidence reaches 1 / SESSION, and until chi-square of the first tokens is 10
    sigma off; inf if never.
    """
    given, distribution = SampledRounds(sampler, target, draft, k, seed), np.array(target.row(()))
    needed, rounds = [np.inf, np.inf], float(FIRST_LOT)
    limit = len(distribution) - 1 + SIGMAS * np.sqrt(2 * (len(distribution) - 1))
    while len(given.tokens) < furthest and np.inf in needed:
        given.more(int(min(rounds, furthest)) - len(given.tokens))
        seen = len(given.tokens)
        counts = np.bincount(given.tokens[:, 0], minlength=len(distribution))
        over = (
            log_evidence(given.levels()) >= -np.log(SESSION),
            stats.chisquare(counts, seen * distribution).statistic > limit,
        )
        needed = [
            seen if one == np.inf and found else one
            for one, found in zip(needed, over, strict=True)
        ]
        rounds *= GROWTH
    return needed[0], needed[1]


def figures(found: list[float]) -> str:
    """Median and 95th percentile."""
    middle, late = np.quantile(found, [0.5, 0.95], method="higher")
    return " | ".join(f"{one:,.0f}" if np.isfinite(one) else "not found" for one in (middle, late))


def stated(rounds: float, support: int, k: int) -> str:
    """The detectable total variation that is stated for so many rounds."""
    return f"{detectable(int(rounds), support, SESSION, k):.2g}" if np.isfinite(rounds) else "-"


def kept() -> Iterator[str]:
    """Table: how often a bias of the stated total variation is caught, in the worst direction."""
    yield "| tokens | target | stated | caught | of | 95 % interval |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for vocabulary in (4, 16):
        for name, weights in (
            ("flat", np.ones(vocabulary)),
            ("uneven", np.arange(1.0, vocabulary + 1)),
        ):
            distribution = weights / weights.sum()
            half = np.arange(vocabulary) % 4 % 3 == 0  # of either distribution's mass
            smallest = detectable(STATED_DRAWS, vocabulary, SESSION, STATED_K)
            towards = distribution + smallest * distribution * np.where(
                half, 1 / distribution[half].sum(), -1 / distribution[~half].sum()
            )
            sampler = Sampler(biased(towards.tolist()), batched=True)
            trees, asked = (
                (PrefixTree(distribution), PrefixTree(distribution[::-1])),
                {"alpha": SESSION, "draws": STATED_DRAWS},
            )
            runs = (
                sampled_distribution_test(sampler, *trees, STATED_K, seed=seed, **asked)
                for seed in range(STATED_RUNS)
            )
            caught = sum(found.caught for found in runs)
            interval = stats.binomtest(caught, STATED_RUNS).proportion_ci(method="exact")
            between = f"{interval.low:.1%} to {interval.high:.1%}"
            yield (
                f"| {vocabulary} | {name} | {smallest:.3f} | {caught} | {STATED_RUNS} | {between} |"
            )


def power() -> Iterator[str]:
    """Table: rounds needed, by vocabulary and total variation."""
    yield (
        "| tokens | bias | total variation | median | 95th percentile | stated there | chi-square: "
        "median | 95th percentile |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for vocabulary in (4, 16):
        distribution = np.full(vocabulary, 1 / vocabulary)
        opposed = np.arange(1, vocabulary + 1) / np.arange(1, vocabulary + 1).sum()
        spread = np.where(np.arange(vocabulary) % 2, 1, -1) * 2 / vocabulary
        single = np.where(np.arange(vocabulary) == 0, 1, -1 / (vocabulary - 1))
        for name, direction in (("half of the tokens", spread), ("one token", single)):
            for variation, furthest in FURTHEST.items():
                sampler = Sampler(
                    biased((distribution + variation * direction).tolist()), batched=True
                )
                trees = PrefixTree(distribution), PrefixTree(opposed)
                found = [rounds_needed(sampler, *trees, K, seed, furthest) for seed in range(RUNS)]
                ours, theirs = map(list, zip(*found, strict=True))
                late = float(np.quantile(ours, 0.95, method="higher"))
                cells = (
                    vocabulary,
                    name,
                    variation,
                    figures(ours),
                    stated(late, vocabulary, K),
                    figures(theirs),
                )
                yield f"| {' | '.join(map(str, cells))} |"


def noise() -> Iterator[str]:
    """Table: rounds needed for the shared noise, and its total variation."""
    yield (
        "| draft's logits | first token's total variation | median | 95th percentile | chi-square: "
        "median | 95th percentile |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    logits = np.random.default_rng(0).normal(size=16)
    target = np.exp(logits) / np.exp(logits).sum()
    sampler = Sampler(shared_noise, drafts="own", batched=True)
    others = {"the target's, negated": -logits, "the target's, halved": logits / 2}
    for name, other in others.items():
        draft = np.exp(other) / np.exp(other).sum()
        trees = PrefixTree([target.tolist()]), PrefixTree([draft.tolist()])
        long = SampledRounds(sampler, *trees, 1, RUNS)
        long.more(1_000_000)
        off = (
            np.abs(np.bincount(long.tokens[:, 0], minlength=16) / len(long.tokens) - target).sum()
            / 2
        )
        found = [rounds_needed(sampler, *trees, 1, seed, 1_000_000) for seed in range(RUNS)]
        ours, theirs = map(list, zip(*found, strict=True))
        yield f"| {name} | {off:.3f} | {figures(ours)} | {figures(theirs)} |"


PAGE = """# Error rates and power of the sampled distribution test

Made by `python benchmarks/sampled_level.py > docs/sampled.md`; every number comes from that run, with fixed seeds.

When a sampler's draws cannot be enumerated, its rounds are sampled and tested statistically. A round's
tokens are continued by samples from the target to k + 1 tokens, and these must follow the target's
distribution. The test bets on the token after each prefix. The evidence is the product of the bets; for a
lossless sampler its expectation is 1, so the probability that it ever reaches 1 / alpha is at most alpha,
no matter when the counting stops. Each call of `assert_lossless` has an error probability of {call:.0e},
divided equally among its rounds. {calls} calls therefore have an error probability of {session:g} together, in
any order and in any number of processes.

## False alarms

{examples:,} examples of a lossless sampler (rejection, in batches): prefix trees of random distributions
over 2 to 6 tokens, some with zeros; k from 1 to 3; up to {draws:,} rounds each, tested after {first:,} and
after {draws:,}.

{level}

## The stated total variation

The test states a total variation of the first token's distribution that it finds in 95 of 100 runs with
all its rounds. The statement is for the worst case, where half of the distribution's mass gains what the
other half loses. The bias here is of that kind. Up to {stated_draws:,} rounds, k = {stated_k}, alpha = {session:g}.

{kept}

## Power: rounds until a bias is caught

The target is flat, and the first token's distribution differs from it by the total variation in the
table. k = {k}, {runs} runs, alpha = {session:g}; the test looks at the evidence each time the number of
rounds has grown by {growth:.0%}. *Stated there* is the stated total variation for as many rounds as the 95th
percentile; it applies to a bias of half of the tokens.

Chi-square is Pearson's statistic of the first tokens in the same rounds. Its threshold is that of vLLM's
test: the degrees of freedom plus {sigmas} of the statistic's standard deviations. This threshold does not have
a fixed error probability: one look has {four:.1e} for 4 tokens and {sixteen:.1e} for 16, and the errors of
several looks add up. The evidence's {session:g} holds for all looks together.

{power}

## The noise of the draft, used again

vllm-project/vllm#47386: the draft is the arg-max of q / E and the recovered token that of
max(p - q, 0) / E, with the same exponential variables E. Noise that is used in two arg-maxes cannot be
enumerated. 16 tokens, standard normal logits, k = 1, {runs} runs of up to 1,000,000 rounds.

{noise}
"""


def main() -> None:
    made = {"level": level(), "kept": kept(), "power": power(), "noise": noise()}
    sections = {name: "\n".join(lines) for name, lines in made.items()}
    four, sixteen = (stats.chi2.sf(df + SIGMAS * np.sqrt(2 * df), df) for df in (3, 15))
    print(
        PAGE.format(
            session=SESSION,
            call=CALL,
            calls=CALLS,
            examples=EXAMPLES,
            draws=DRAWS,
            first=FIRST_LOT,
            k=K,
            runs=RUNS,
            growth=GROWTH - 1,
            sigmas=SIGMAS,
            stated_draws=STATED_DRAWS,
            stated_k=STATED_K,
            four=four,
            sixteen=sixteen,
            **sections,
        ),
        end="",
    )


if __name__ == "__main__":
    main()
