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
from collections.abc import Sequence

import numpy as np

from ..acceptance.counts import Array, Counts
from .labellings import Labellings
from .paired import Pair

FIRST_LOOK = (199, 0.1)
"""A number of labellings, and the p-value above which the test stops after them and does not
reject.
"""
_STAGES = (199, 1800)
"""Labellings drawn one lot after the other for a p-value that is multiplied, while it is small."""
_MOST = 1 << 20
"""Cap on labellings per accumulated run; later runs add power."""
_ROWS = 256
"""Labellings multiplied at a time."""
TIE = 1e-10
"""Statistics closer than this, in units of their spread, are equal but for rounding."""


@dataclasses.dataclass(frozen=True)
class PermutationResult:
    """The result of a permutation test."""

    p_value: float
    position: int | None
    """Where the largest standardised drop is: 0 is the acceptance length, i the survival of
    position i.
    """


class SwapStatistic:
    """The largest standardised drop of a pair under any labelling of its runs.

    With r the ratio pooled over all runs of both sides, a run's residuals `accepted - r * rounds`
    sum to zero, and the negative sum over today's runs is the drop up to a factor that every
    labelling shares. Each metric's sum is divided by its standard deviation over all labellings,
    which no labelling changes, so the maximum over metrics is a statistic of the labelling alone.
    The deviation is exact: with n of a prompt's R runs called now, the sum over them has the
    variance n (R - n) / (R (R - 1)) times the sum of squares about the prompt's mean.
    """

    def __init__(self, pair: Pair, *, gain: bool = False) -> None:
        self.prompts = pair.before.prompts
        runs, now_runs = len(pair.runs), pair.now_runs
        above, below = _totals(pair.runs)
        whole = below.sum((1, 2))
        ratio = np.divide(above.sum((1, 2)), whole, out=np.zeros(whole.shape), where=whole > 0)
        lacks = ratio[:, None, None] * below - above
        within = lacks - lacks.mean(1, keepdims=True)
        share = now_runs * (runs - now_runs) / (runs * (runs - 1))
        spread = np.sqrt(share * (within**2).sum((1, 2)))
        varies = spread > 1e-9 * np.sqrt((above**2).sum((1, 2))).clip(1e-300)
        self._positions = np.flatnonzero(varies)
        lacks = lacks[varies] / (-spread if gain else spread)[varies, None, None]
        self._today: Array = lacks[:, -now_runs:].sum((1, 2))
        # The first run is called now where too few of the others are.
        self.constant: Array = now_runs * lacks[:, 0].sum(1)
        changes = lacks[:, 1:] - lacks[:, :1]
        self.weights: Array = changes.reshape(len(changes), changes.shape[1] * changes.shape[2])
        """(metrics, (runs - 1) * prompts): what a run adds where it is called now."""

    @property
    def varies(self) -> bool:
        """Whether a labelling can matter: two prompts at least, whose runs differ."""
        return self._positions.size > 0 and len(self.prompts) > 1

    @property
    def observed(self) -> float:
        """Its value under the labels that the runs have."""
        return float(self._today.max())

    def position(self) -> int | None:
        """Where the observed labelling has its largest drop; None where there is none."""
        if not (self.varies and self.observed > 0):
            return None
        # Of drops that are equal but for rounding the first counts.
        return int(self._positions[np.argmax(self._today >= self._today.max() * (1 - TIE))])


def distributions(statistics: Sequence[SwapStatistic], labellings: Labellings) -> Array:
    """(statistics, values): each statistic under the same labellings, the observed one among them,
    first where labellings are drawn. One matrix product serves all.

    Every statistic varies, and the labellings are of its prompts, among others.
    """
    weights = np.concatenate([_spread(statistic, labellings) for statistic in statistics])
    constants = np.concatenate([statistic.constant for statistic in statistics])
    widths = [len(statistic.constant) for statistic in statistics]
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    observed = np.array([[statistic.observed] for statistic in statistics])
    values = [observed[:, : 0 if labellings.complete else 1]]
    for block in labellings:
        for begin in range(0, len(block), _ROWS):
            rows = block[begin : begin + _ROWS]
            drops = weights @ rows.reshape(len(rows), -1).T.astype(float) + constants[:, None]
            values.append(np.maximum.reduceat(drops, starts, axis=0))
    return np.concatenate(values, axis=1)


def _spread(statistic: SwapStatistic, labellings: Labellings) -> Array:
    """The statistic's weights at the labellings' prompts; 0 where it lacks a prompt."""
    if statistic.prompts == labellings.prompts:
        return statistic.weights
    place = {key: at for at, key in enumerate(labellings.prompts)}
    metrics, runs = len(statistic.weights), labellings.runs - 1
    spread = np.zeros((metrics, runs, len(place)))
    columns = [place[key] for key in statistic.prompts]
    spread[:, :, columns] = statistic.weights.reshape(metrics, runs, len(columns))
    return spread.reshape(metrics, runs * len(place))


def share_at_least(values: Array, observed: float) -> float:
    """The share of a distribution that is at least the observed value: the p-value, (1 + #) / (1 +
    B) of B labellings drawn (Phipson and Smyth, 2010), and exact where all are enumerated.
    """
    return float(np.mean(values >= observed - TIE))


def paired_permutation_test(
    pair: Pair, *, level: float, seed: int = 0, gain: bool = False
) -> PermutationResult:
    """One-sided test of a drop (or gain) of one pair.

    The number of labellings is ten times what `level` needs for resolution; with few prompts all
    are enumerated. Most tests stop early; stopping can only turn a rejection into none, so the
    level holds.
    """
    statistic = SwapStatistic(pair, gain=gain)
    if not statistic.varies:
        return PermutationResult(p_value=1.0, position=None)
    p_value, full = 1.0, math.ceil(10 / level)
    first, clear = FIRST_LOOK
    for number, bound in ((min(first, full), max(clear, level)), (full, 1.0)):
        labellings = labellings_of(pair, number, seed)
        p_value = share_at_least(distributions([statistic], labellings)[0], statistic.observed)
        if p_value > bound:
            break
    return PermutationResult(p_value=p_value, position=statistic.position())


def labellings_of(pair: Pair, number: int, seed: int = 0) -> Labellings:
    """Labellings of a pair's runs."""
    return Labellings(
        pair.before.prompts, runs=len(pair.runs), now_runs=pair.now_runs, number=number, seed=seed
    )


def random_p_value(pair: Pair, *, level: float, seed: int) -> float:
    """A p-value of a drop that is exactly uniform where nothing changed, for tests that are
    multiplied.

    Ties are broken by chance. B labellings only bracket the p-value of all of them, so it is drawn
    from what they leave open, Beta(rank, B + 2 - rank); where the bracket reaches far below what
    `level` can use, more are drawn.
    """
    statistic = SwapStatistic(pair)
    rng = np.random.default_rng(seed)
    if not statistic.varies:
        return float(rng.random())
    lot, rank, drawn = rng.random(), 1, 0
    for number in (*_STAGES, min(math.ceil(100 / level), _MOST)):
        labellings = labellings_of(pair, number, int(rng.integers(2**63)))
        values = distributions([statistic], labellings)[0]
        values = values if labellings.complete else values[1:]
        above = int((values > statistic.observed + TIE).sum())
        equal = int((abs(values - statistic.observed) <= TIE).sum())
        if labellings.complete:
            return float((above + lot * equal) / values.size)
        # The same draw breaks the ties of every stage; otherwise early stopping would be biased.
        rank += above + int(rng.binomial(equal, lot))
        drawn += values.size
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


def _totals(runs: Sequence[Counts]) -> Array:
    """(2, 1 + k, runs, prompts): numerator and denominator of the acceptance length less one, then
    of each survival.
    """
    totals = np.empty((2, 1 + runs[0].k, len(runs), len(runs[0].prompts)))
    for number, run in enumerate(runs):
        totals[0, 0, number], totals[0, 1:, number] = run.accepted.sum(1), run.accepted.T
        totals[1, 0, number], totals[1, 1:, number] = run.rounds, run.drafted.T
    return totals
