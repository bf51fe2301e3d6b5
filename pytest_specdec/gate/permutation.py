"""The test for records on different texts: swap the labels before/now prompt by prompt.

If nothing changed, a prompt's runs are exchangeable, so every labelling is as likely as the
observed one and the p-value is exact for any number of prompts, however rounds cluster within a
prompt and however heavy their tails.

One test covers the acceptance length and every position's survival: the statistic is the largest of
their standardised drops (Westfall and Young's max-statistic), so a loss that sits in one late
position is not diluted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..acceptance.counts import Array, Counts
from .paired import Pair

_BATCH = 512
_EARLY_STOPS = ((199, 0.1), (1999, 0.02))
"""Early-stopping schedule: (number of permutations, p-value above which the test stops and does not
reject).
"""

_MOST = 1 << 20
"""Cap on permutations per accumulated run; later runs add power."""


@dataclasses.dataclass(frozen=True)
class PermutationResult:
    """The result of a permutation test."""

    p_value: float
    position: int | None
    """Where the largest standardised drop is: 0 is the acceptance length, i the survival of
    position i.
    """


class PairedLabellings:
    """All the ways to label some of each prompt's runs `now`, and the max-statistic of each.

    With r the ratio pooled over all runs of both sides, a run's residuals `accepted - r * rounds`
    sum to zero, and the negative sum over today's runs is the drop up to a factor that every
    labelling shares. No labelling changes the scale, so the maximum over metrics is a statistic of
    the labelling alone.
    """

    def __init__(self, pair: Pair, *, gain: bool = False) -> None:
        lacks = np.stack([_totals(run) for run in pair.runs])
        above, below = lacks[..., 0], lacks[..., 1]
        whole = below.sum((0, 1))
        ratio = np.divide(above.sum((0, 1)), whole, out=np.zeros(whole.shape), where=whole > 0)
        residual = ratio * below - above
        scale = np.sqrt((residual**2).sum((0, 1)))
        seen = scale > 1e-9 * np.sqrt((above**2).sum((0, 1))).clip(1e-300)
        self._positions = np.flatnonzero(seen)
        self._lacks: Array = (-1 if gain else 1) * residual[..., seen] / scale[seen]
        self._now = pair.now_runs
        self._runs, self._prompts = residual.shape[:2]

    @property
    def varies(self) -> bool:
        """Whether any two runs of a prompt differ at all."""
        return self._positions.size > 0

    def position(self) -> int | None:
        """Where the observed labelling has its largest drop; None where there is none."""
        observed = self._lacks[-self._now :].sum((0, 1))
        return (
            int(self._positions[observed.argmax()]) if self.varies and observed.max() > 0 else None
        )

    def test(self, resamples: int, rng: np.random.Generator) -> Any:
        """scipy's permutation test; all labellings where there are no more than `resamples`."""
        from scipy import stats

        rows = np.arange(self._prompts)
        # Each number stands for one run of one prompt: scipy shuffles numbers and the statistic
        # looks them up.
        names = tuple(rows + self._prompts * run for run in range(self._runs))
        return stats.permutation_test(
            names,
            self._statistic(),
            permutation_type="samples",
            alternative="greater",
            vectorized=True,
            n_resamples=resamples,
            batch=_BATCH,
            rng=rng,
        )

    def _statistic(self) -> Callable[..., Array]:
        def largest(*names: np.ndarray, axis: int) -> Array:
            today = [name.astype(int) // self._prompts for name in names[-self._now :]]
            drops = sum(
                sum((labelled == run).astype(float) for labelled in today) @ self._lacks[run]
                for run in range(self._runs)
            )
            best: Array = np.asarray(drops).max(-1)
            return best

        return largest


def paired_permutation_test(
    pair: Pair, *, level: float, seed: int, gain: bool = False
) -> PermutationResult:
    """One-sided test of a drop (or gain); p = (1 + #) / (1 + B) as in Phipson and Smyth (2010).

    B is ten times what `level` needs for resolution; with few prompts all labellings are
    enumerated. Most tests stop early, without the full B; stopping can only turn a rejection into
    none, so the level holds.
    """
    labellings = PairedLabellings(pair, gain=gain)
    if pair.prompts < 2 or not labellings.varies:
        return PermutationResult(p_value=1.0, position=None)
    p, full = 1.0, math.ceil(10 / level)
    for resamples, clear in (*_EARLY_STOPS, (full, 1.0)):
        p = float(
            labellings.test(min(resamples, full), np.random.default_rng([seed, resamples])).pvalue
        )
        if p > max(clear, level) or resamples >= full:
            break
    return PermutationResult(p_value=p, position=labellings.position())


def random_p_value(pair: Pair, *, level: float, seed: int) -> float:
    """A p-value of a drop that is exactly uniform where nothing changed, for tests that are
    multiplied.

    Ties are broken by chance. B labellings only bracket the p-value of all of them, so it is drawn
    from what they leave open, Beta(rank, B + 2 - rank); where the bracket reaches far below what
    `level` can use, more are drawn.
    """
    labellings = PairedLabellings(pair)
    rng = np.random.default_rng(seed)
    if not labellings.varies:
        return float(rng.random())
    lot, rank, drawn = rng.random(), 1, 0
    for resamples in (199, 1800, min(math.ceil(100 / level), _MOST)):
        result = labellings.test(resamples, rng)
        tolerance = 1e-12 * max(1.0, abs(result.statistic))
        null = result.null_distribution
        above = int((null > result.statistic + tolerance).sum())
        equal = int((abs(null - result.statistic) <= tolerance).sum())
        if null.size < resamples:  # all labellings, the observed one among them
            return float((above + lot * equal) / null.size)
        # The same draw breaks the ties of every stage; otherwise early stopping would be biased.
        rank += above + int(rng.binomial(equal, lot))
        drawn += null.size
        if rank > 5:
            break
    return float(rng.beta(rank, drawn + 2 - rank))


def can_resolve(prompts: int, level: float) -> bool:
    """Whether a p-value of that many prompts can ever reach the level: 2 ** -prompts <= level."""
    return prompts >= prompts_to_resolve(level)


def prompts_to_resolve(level: float) -> int:
    """The fewest prompts whose p-value can reach the level."""
    return math.ceil(-math.log2(level) - 1e-9)


def too_few(prompts: int, level: float, gate: str) -> str:
    """Why a gate with so few prompts can never fail, and how many it needs."""
    number = f"{prompts} prompt{'s' * (prompts != 1)}"
    return f"{number} can never fail {gate}; use at least {prompts_to_resolve(level)} prompts"


def _totals(run: Counts) -> Array:
    """(prompts, 1 + k, 2): numerator and denominator of the acceptance length less one, then of
    each survival.
    """
    above = np.column_stack([run.accepted.sum(1), run.accepted])
    below = np.column_stack([run.rounds, run.drafted])
    return np.stack([above, below], axis=-1)
