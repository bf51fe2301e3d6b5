"""Do counted tokens follow their stated distributions? Evidence that may be looked at at any time.

n tokens after a prefix, n_i of them token i, are bet on with a distribution drawn from a Dirichlet
distribution around the null's p, of concentration c: B(c p + n) / B(c p) / prod p_i^n_i has
expectation one under p, exactly, whatever n is (Krichevsky and Trofimov, 1981, with c p in place of
1/2). Means over c, and products over prefixes, are test martingales again: by Ville's inequality
one ever reaches 1 / alpha with probability `alpha` at most, wherever the counting stops. No
chi-square approximation is used: small cells are fine, and a token of probability 0 is infinite
evidence.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import special

CONCENTRATIONS = np.array([10.0, 100.0, 1_000.0, 10_000.0, 100_000.0])
"""Each finds best what is about 1 / sqrt(c) away."""
POWER = 0.95
"""With which a stated total variation is found."""


@dataclasses.dataclass(frozen=True)
class PrefixCounts:
    """Tokens counted after all prefixes of one length; arrays (pairs,), sorted by prefix, each
    pair once.
    """

    depth: int
    """Length of the prefixes."""
    vocab_size: int
    prefixes: np.ndarray
    """Codes of the prefixes: their tokens as digits in base `vocab_size`."""
    distributions: np.ndarray
    """Which distribution p follows the prefix: equal numbers, equal distributions."""
    tokens: np.ndarray
    chances: np.ndarray
    """p(token)."""
    counts: np.ndarray

    def bets(self) -> np.ndarray:
        """Logarithms (prefixes,) of the bet after each prefix."""
        return log_bets(self.prefixes, self.chances, self.counts)

    def evidence(self) -> float:
        """Logarithm of a mean of three products over the prefixes, each suited to another kind of
        bias.

        With a bet after few prefixes, after half of them, and one for all prefixes with the same
        distribution together. Where no bet is made nothing is lost: most prefixes are visited too
        seldom to matter.
        """
        bets = self.bets()
        if self.depth == 0:
            return float(bets[0])
        few = -self.depth * math.log(max(self.vocab_size, 2))
        products = [_spiked(bets, few), _spiked(bets, math.log(0.5)), float(self._pooled().sum())]
        return float(special.logsumexp(products) - math.log(len(products)))

    def _pooled(self) -> np.ndarray:
        """Logarithms (distributions,) of the bet on what follows all prefixes with the same
        distribution.
        """
        codes, first, where = np.unique(
            self.distributions * self.vocab_size + self.tokens,
            return_index=True,
            return_inverse=True,
        )
        return log_bets(
            codes // self.vocab_size, self.chances[first], np.bincount(where, self.counts)
        )


def log_evidence(levels: list[PrefixCounts]) -> float:
    """Logarithm of the mean of the evidence over prefixes of each length, so that noise of long
    ones costs the short nothing.
    """
    return float(special.logsumexp([level.evidence() for level in levels]) - math.log(len(levels)))


def log_bets(groups: np.ndarray, chances: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Logarithms of the Dirichlet bet for each run of equal `groups`; arrays (pairs,), all counts
    positive.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    possible = chances > 0
    p = np.where(possible, chances, 1.0)[:, None]
    c, n = CONCENTRATIONS, counts[:, None]
    each = special.gammaln(c * p + n) - special.gammaln(c * p) - n * np.log(p)
    totals = np.add.reduceat(counts, starts)[:, None]
    bets = np.add.reduceat(each, starts, 0) + special.gammaln(c) - special.gammaln(c + totals)
    mean: np.ndarray = special.logsumexp(bets, 1) - math.log(len(c))
    return np.where(np.logical_and.reduceat(possible, starts), mean, np.inf)


def _spiked(bets: np.ndarray, log_share: float) -> float:
    """Logarithm of the product of (1 - share) + share * bet."""
    return float(np.logaddexp(math.log1p(-math.exp(log_share)), log_share + bets).sum())


def detectable(draws: int, support: int, alpha: float, k: int) -> float:
    """The smallest total variation that `log_evidence` finds 95 times in 100 among `draws` rounds
    of k drafts; at most 1.

    Of the distribution of the first token, over `support` tokens. In any direction: t of total
    variation is a chi-square distance of 4 t^2 or more, least where half of the distribution's mass
    gains what the other half loses. The bet of concentration c is then, of n draws, about
    exp(n/(n+c) X/2) (c/(n+c))^((support-1)/2) with X noncentrally chi-square distributed, 4 n t^2
    the noncentrality. Where only one token is possible, any other is infinite evidence.
    """
    from scipy import optimize, stats

    freedom = support - 1
    if draws <= 0:
        return 1.0
    if freedom < 1:
        return float(-math.expm1(math.log1p(-POWER) / draws))
    needed = math.log(k + 1) - math.log(alpha)  # of one among the k + 1 lengths of a mean
    least = _least_chi_square(draws, freedom, needed)
    if stats.ncx2.sf(least, freedom, 4 * draws) < POWER:
        return 1.0
    return float(
        optimize.brentq(
            lambda t: stats.ncx2.sf(least, freedom, 4 * draws * t * t) - POWER, 1e-9, 1.0
        )
    )


def _least_chi_square(n: int, freedom: int, needed: float) -> float:
    """The chi-square statistic of n counted tokens at which their bet reaches exp(needed)."""

    from scipy import optimize

    def bet(chi_square: float) -> float:
        each = chi_square * n / (n + CONCENTRATIONS) / 2 - freedom / 2 * np.log1p(
            n / CONCENTRATIONS
        )
        return float(special.logsumexp(each)) - math.log(len(CONCENTRATIONS))

    most = 1.0
    while bet(most) < needed:
        most *= 2
    return float(optimize.brentq(lambda x: bet(x) - needed, 0.0, most))
