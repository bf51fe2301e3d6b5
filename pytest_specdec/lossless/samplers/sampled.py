"""Is a sampler lossless as far as counting shows? For samplers whose draws cannot be enumerated.

What a round emits, continued by samples from the target to k + 1 tokens, must follow the target's
joint distribution exactly. Rounds are drawn in growing lots; after each, the evidence against that
distribution (`dirichlet_evidence`) is looked at, and the test ends where it reaches 1 / alpha.
Looking so often costs nothing: a lossless sampler ever gets there with probability alpha at most.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ...common.errors import RequestError
from ..texts.martingale import capped_exp
from .dirichlet_evidence import PrefixCounts, detectable, log_evidence
from .prefix_tree import Prefix, PrefixTree
from .sampled_rounds import SampledRounds, decoded, seeded
from .sampler import Sampler

FIRST_LOT = 1_000
"""Rounds before the first look; their number doubles from look to look."""


@dataclasses.dataclass(frozen=True)
class SampledResult:
    """What counting a sampler's tokens showed. Natural reading: `assert not found.caught,
    found.message`.
    """

    draws: int
    """Rounds that were drawn."""
    log_e: float
    """Natural logarithm of the evidence against the target's distribution; infinite for a token
    that the target never emits.
    """
    alpha: float
    caught: bool
    """Whether the evidence reached 1 / alpha."""
    prefix: Prefix
    """Tokens whose last one is most off, after the shortest prefixes that show a bias."""
    expected: float
    """The target's probability of `prefix`."""
    got: float
    """How often it was emitted, of all rounds."""
    total_variation: float
    """Between counted and expected distribution of the token that ends `prefix`; an estimate,
    somewhat large by noise.
    """
    detectable: float
    """The total variation of the first token's distribution that would be found 95 times in 100
    with all draws.
    """
    drafts: int | None = None
    """How many drafts the rows had that `prefix` is of, where rows of different numbers were
    counted.
    """

    @property
    def e_value(self) -> float:
        return capped_exp(self.log_e) if self.log_e < math.inf else math.inf

    @property
    def message(self) -> str:
        """One sentence: which tokens come how often, or what would have been found."""
        if not self.caught:
            return (
                f"{self.draws:,} rounds show no bias; one of {self.detectable:.2g} in total "
                "variation would have been found"
            )
        rows = (
            ""
            if self.drafts is None
            else f"in rows with {self.drafts} drafts beside rows with other numbers, "
        )
        if self.expected == 0:
            rounds = f"{self.got:.3g} of {self.draws:,} rounds"
            return f"{rows}it emitted {list(self.prefix)}, which the target never does, in {rounds}"
        return (
            f"{rows}{list(self.prefix)} was emitted with probability {self.got:.4g} where the "
            f"target has {self.expected:.4g} "
            f"({self.draws:,} rounds, evidence {self.e_value:.3g} against {1 / self.alpha:.3g}, of "
            f"a share of {self.alpha:.2g} "
            f"of false alarms; total variation about {self.total_variation:.2g}, found from "
            f"{self.detectable:.2g})"
        )


def sampled_distribution_test(
    sampler: Sampler,
    target: PrefixTree,
    draft: PrefixTree,
    k: int,
    *,
    alpha: float,
    draws: int = 20_000,
    seed: int = 0,
    ragged: bool = False,
) -> SampledResult:
    """Draw up to so many rounds of k drafts, and stop where the evidence against the target's
    distribution reaches 1 / alpha.

    `ragged` rounds have 0 to k drafts, in the same batches, and each number is judged on its own.
    Drafts are drawn from `draft`, or by a sampler of `drafts="own"`, whose distributions must then
    be by position. A lossless sampler is caught with probability `alpha` at most. The random state
    of the caller is left as it was. Raises ContractError for what no round can emit, and
    RequestError for distributions that do not go together.
    """
    if not 0 < alpha < 1 or draws < 1:
        raise RequestError(
            f"alpha {alpha:g} and draws {draws} are not valid; choose alpha between 0 and 1 and "
            "one draw or more"
        )
    given = SampledRounds(sampler, target, draft, k, seed, ragged=ragged)
    with seeded(seed):
        while True:
            drawn = len(given.tokens)
            given.more(min(max(drawn, FIRST_LOT), draws - drawn))
            levels = given.levels()
            log_e = log_evidence(levels)
            caught = log_e >= -math.log(alpha)
            if caught or len(given.tokens) == draws:
                break
    support = sum(probability > 0 for probability in target.row(()))
    kinds = k + 1 if ragged else 1
    smallest = detectable(draws // kinds, support, alpha / kinds, k)
    worst, drafts = _worst(given, levels, alpha)
    return SampledResult(
        len(given.tokens), log_e, alpha, caught, *worst, smallest, drafts if ragged else None
    )


def _worst(
    given: SampledRounds, levels: list[PrefixCounts], alpha: float
) -> tuple[tuple[Prefix, float, float, float], int]:
    """Where a bias shows first, or else most: the tokens, what was expected and got, the total
    variation; how many drafts.
    """
    evidence = [level.evidence() for level in levels]
    needed = math.log(len(levels)) - math.log(alpha)
    worst_level = next(
        (at for at, value in enumerate(evidence) if value >= needed), int(np.argmax(evidence))
    )
    level, drafts = levels[worst_level], given.kinds()[worst_level // (given.k + 1)]
    code = np.unique(level.prefixes)[level.bets().argmax()]
    here = level.prefixes == code
    counts = np.bincount(level.tokens[here], level.counts[here], level.vocab_size)
    distribution = given.target.nulls(level.distributions[here][0])
    gaps = np.abs(counts / counts.sum() - distribution)
    token = int(np.where(distribution > 0, gaps, 2 * (counts > 0)).argmax())
    prefix = (*decoded(int(code), level.depth, level.vocab_size), token)
    chance = math.prod(
        float(
            given.target.nulls(
                given.target.numbers(at, np.array([_coded(prefix[:at], level.vocab_size)]))[0]
            )[token_at]
        )
        for at, token_at in enumerate(prefix)
    )
    return (
        prefix,
        chance,
        float(counts[token]) / len(given.rounds_of(drafts)),
        float(gaps.sum()) / 2,
    ), drafts


def _coded(prefix: Prefix, vocab_size: int) -> int:
    code = 0
    for token in prefix:
        code = code * vocab_size + token
    return code
