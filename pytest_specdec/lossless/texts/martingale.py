"""Is a text a draw from the distributions that its target states? Martingales over its tokens, with
numpy and scipy alone.

If each token y is drawn from its distribution p given the tokens before it, three things hold
whatever the model: the surprisals' excess over the entropies sums to a martingale of known
variance; the randomised probability-integral transforms are independent and uniform (Rosenblatt,
1952); and a bet r(y) / p(y) on any other distribution r that is fixed before y is seen has
expectation one, or less where r has mass outside p's support. Products of bets and their mixtures
are therefore test martingales: by Ville's inequality such a product ever reaches 1 / alpha with
probability `alpha` at most, however often one looks and whenever one stops (Ramdas et al.,
Game-theoretic statistics and safe anytime-valid inference, 2023).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

SHARES = (0.02, 0.1, 0.4)
"""How much of another distribution r a bet mixes into p: (1 - share) p + share r."""
CELLS = (2, 4, 8, 16)
"""Equal parts of [0, 1] in which a Krichevsky-Trofimov bettor counts the transforms."""
_SERIAL_CELLS = 4
NARROWER = (0.8, 0.9, 0.95, 0.98, 0.99)
"""Masses within which the transforms stay where an engine leaves out a distribution's tail."""
_NARROW_SHARE = 0.9
_LARGEST = 700.0
"""Logarithm of the largest evidence that is reported."""
NARROW, RANKS, SERIAL = (
    "a narrower top-k or top-p",
    "other ranks than the target's",
    "draws that depend on the one before",
)


@dataclasses.dataclass(frozen=True)
class Draws:
    """Scores of a token y drawn from a distribution p; all arrays (..., tokens), natural
    logarithms.
    """

    surprisal: np.ndarray
    """-log p(y)."""
    entropy: np.ndarray
    """The surprisal's mean under p."""
    variance: np.ndarray
    """And its variance."""
    below: np.ndarray
    """Mass of the tokens likelier than y, and of those as likely with a smaller id."""
    tilted: Mapping[str, Sequence[np.ndarray]]
    """log r(y)/p(y) of distributions to bet on as they are, by what such a distribution would
    mean.
    """
    mixed: Mapping[str, np.ndarray]
    """log r(y)/p(y) of distributions to mix into p, by what such a distribution would mean."""

    @classmethod
    def joined(cls, parts: Sequence[Draws], order: np.ndarray) -> Draws:
        """Parts (tokens,) put end to end, then brought into an order; the same distributions were
        bet on in each.
        """

        def join(arrays: list[np.ndarray]) -> np.ndarray:
            joined: np.ndarray = np.concatenate(arrays)[order]
            return joined

        scores = {
            name: join([getattr(part, name) for part in parts])
            for name in ("surprisal", "entropy", "variance", "below")
        }
        tilted = {
            name: [join([part.tilted[name][bet] for part in parts]) for bet in range(len(bets))]
            for name, bets in parts[0].tilted.items()
        }
        return cls(
            **scores,
            tilted=tilted,
            mixed={name: join([part.mixed[name] for part in parts]) for name in parts[0].mixed},
        )

    def transforms(self, uniforms: np.ndarray) -> np.ndarray:
        """The randomised probability-integral transforms F(y-) + v p(y), uniform where the text
        follows p.
        """
        values: np.ndarray = np.clip(self.below + uniforms * np.exp(-self.surprisal), 0.0, 1.0)
        return values

    def z(self) -> np.ndarray:
        """Standardised surprisal (...): asymptotically standard normal; 0 where all distributions
        are certain.
        """
        spread = np.sqrt(self.variance.sum(-1))
        excess = (self.surprisal - self.entropy).sum(-1)
        standardised: np.ndarray = np.divide(
            excess, spread, out=np.zeros_like(spread), where=spread > 0
        )
        return standardised


@dataclasses.dataclass(frozen=True)
class TextEvidence:
    """The test martingale along the tokens, as logarithms."""

    total: np.ndarray
    """(..., tokens): the mean of all families' values."""
    families: Mapping[str, np.ndarray]
    """Each (..., tokens): the mean over one family's bets."""

    @property
    def highest(self) -> np.ndarray:
        """(...): the largest value so far, at least log 1: what has been rejected stays
        rejected.
        """
        largest: np.ndarray = np.maximum(self.total.max(-1), 0.0)
        return largest

    @property
    def highest_value(self) -> float:
        """`highest` of one run (tokens,), no longer as a logarithm."""
        return capped_exp(float(self.highest))

    def suspect(self, token: int) -> str:
        """The family of one run (tokens,) whose bets have paid most up to a token, by its index."""
        return max(self.families, key=lambda name: float(self.families[name][token]))

    def reached(self, alpha: float) -> np.ndarray:
        """(...): how many tokens it took to reach 1 / alpha; 0 where it never did."""
        above = self.total >= -math.log(alpha)
        return np.where(above.any(-1), above.argmax(-1) + 1, 0)


def evidence(draws: Draws, uniforms: np.ndarray) -> TextEvidence:
    """The e-process over draws in the order in which they are read; `uniforms` (..., tokens) are
    fresh, in [0, 1).

    Every family of bets has the same prior weight, and within a family every bet.
    """
    transforms = draws.transforms(uniforms)
    bets: dict[str, list[np.ndarray]] = {name: [*odds] for name, odds in draws.tilted.items()}
    bets |= {
        name: [mixed_bet(odds, share) for share in SHARES] for name, odds in draws.mixed.items()
    }
    bets[NARROW] = [narrow_bet(transforms, mass) for mass in NARROWER]
    bets[RANKS] = [rank_bet(transforms, cells) for cells in CELLS]
    bets[SERIAL] = [serial_bet(transforms, _SERIAL_CELLS)]
    families = {
        name: _mean([np.cumsum(bet, -1) for bet in family]) for name, family in bets.items()
    }
    return TextEvidence(_mean([*families.values()]), families)


def capped_exp(log_e: float) -> float:
    """A finite number for finite evidence, however large."""
    return math.exp(min(log_e, _LARGEST))


def mixed_bet(odds: np.ndarray, share: float) -> np.ndarray:
    """log((1 - share) + share r/p) from log r/p, which may be -inf."""
    bet: np.ndarray = np.logaddexp(math.log1p(-share), math.log(share) + odds)
    return bet


def narrow_bet(transforms: np.ndarray, mass: float) -> np.ndarray:
    """Logarithms of bets that the next transform lies below a mass; most of a stake is lost where
    it does not.
    """
    with np.errstate(divide="ignore"):
        odds = np.log((transforms < mass) / mass)
    return mixed_bet(odds, _NARROW_SHARE)


def rank_bet(transforms: np.ndarray, cells: int) -> np.ndarray:
    """Logarithms of bets that the next transform falls where earlier ones did (Krichevsky and
    Trofimov, 1981).
    """
    return _counted_bet(
        np.zeros(transforms.shape, dtype=np.int64), _cells(transforms, cells), 1, cells
    )


def serial_bet(transforms: np.ndarray, cells: int) -> np.ndarray:
    """`rank_bet` with a count for each cell of the transform before: sees draws that depend on
    each other.
    """
    current = _cells(transforms, cells)
    before = np.concatenate([np.zeros_like(current[..., :1]), current[..., :-1]], -1)
    return _counted_bet(before, current, cells, cells)


def uniformity(transforms: np.ndarray) -> float:
    """Kolmogorov-Smirnov p-value of transforms (tokens,) against the uniform distribution; for one
    look at a fixed length. It is twice that of the larger one-sided distance, at most 1: the
    two-sided one is at most that, and is less by 2 % at 0.5 and by nothing below 0.01.
    """
    ordered, steps = np.sort(transforms), np.arange(len(transforms) + 1) / len(transforms)
    distance = max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max())
    return min(1.0, 2 * float(special.smirnov(len(transforms), distance)))


def _counted_bet(state: np.ndarray, cell: np.ndarray, states: int, cells: int) -> np.ndarray:
    """log(cells * (count + 1/2) / (total + cells/2)), counts per state and up to, not including,
    each token.
    """
    bet = np.empty(cell.shape)
    for state_number in range(states):
        here = state == state_number
        total = np.cumsum(here, -1) - here
        for cell_number in range(cells):
            seen = here & (cell == cell_number)
            count = np.cumsum(seen, -1) - seen
            bet[seen] = np.log(cells * (count[seen] + 0.5) / (total[seen] + cells / 2))
    return bet


def _cells(transforms: np.ndarray, cells: int) -> np.ndarray:
    return np.minimum((transforms * cells).astype(np.int64), cells - 1)


def _mean(logs: Sequence[np.ndarray]) -> np.ndarray:
    """log of the mean of exp, elementwise over the arrays."""
    summed: np.ndarray = np.logaddexp.reduce(np.stack(logs), axis=0)
    return summed - math.log(len(logs))
