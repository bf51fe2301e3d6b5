"""One max-test over the cells of a session: the same label swaps serve every cell and metric.

The cells of a grid are replays or decodings of the same prompts and vary together, so Bonferroni's
inequality would make each of them needlessly deaf. Westfall and Young's step-down max-test knows
how they vary together: each labelling is applied to all cells at once, and a cell's adjusted
p-value is the share of labellings under which the largest statistic of the cells that are not
larger than it reaches its own. If nothing changed in some of the cells, the chance that any of
these is named is alpha at most, whatever happened in the others.

An adjusted p-value is never smaller than the cell's own. So a cell whose own p-value is above alpha
is decided at once, and only for one at alpha or below are the other cells of the session measured.

Source: Westfall and Young, Resampling-Based Multiple Testing (1993), algorithm 4.1; exact in finite
samples by Romano and Wolf, Exact and approximate stepdown methods (JASA 2005).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np

from ..acceptance.counts import Array
from .labellings import Labellings
from .paired import Pair
from .permutation import (
    FIRST_LOOK,
    TIE,
    PermutationResult,
    SwapStatistic,
    can_resolve,
    distributions,
    share_at_least,
)

Structure = tuple[int, int]
"""Runs of a pair, and how many of them are `now`: cells of one structure share labellings."""

_CELLS = 32
"""Cells whose statistics are computed by one matrix product."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwapResult(PermutationResult):
    """The result of a cell's test in its session. Its p-value is adjusted for the other cells where
    it is small enough to matter, else the cell's own.
    """

    rejects: bool
    """Whether it is significant at the session's alpha."""
    cells: int
    """Cells that the p-value is adjusted for; 1 for the cell's own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """The cells that a session judges by label swaps."""

    pairs: Mapping[Hashable, Pair]
    """By cell."""
    apart: float = 0
    """Shares of alpha, one for each gate, that other tests keep."""


class SessionTest:
    """The swap tests of one session, at one false-alarm rate together."""

    def __init__(self, *, alpha: float, gates: int, family: Callable[[], Family]) -> None:
        """`gates` gates share `alpha`; `family` measures the cells on first use."""
        self.alpha, self.gates = alpha, gates
        self._measure = family
        self._labellings: dict[tuple[object, ...], Labellings] = {}
        self._adjusted: dict[tuple[tuple[Hashable, ...], bool], dict[Hashable, float]] = {}
        self._results: dict[tuple[Hashable, bool], SwapResult] = {}

    def of(self, cell: Hashable) -> CellTest:
        """The test of one of the session's cells."""
        return CellTest(session=self, cell=cell)

    @functools.cached_property
    def family(self) -> Family:
        """The session's cells, measured on first use."""
        return self._measure()

    def level(self, cell: Hashable, pair: Pair) -> float:
        """A level that the smallest possible p-value of a cell must reach for the cell ever to
        fail. Only where the prompts are few does it depend on the other cells, which are then
        measured.
        """
        surely = self.alpha / (2 * self.gates)  # half a share: other tests may keep the other half
        if can_resolve(pair.prompts, surely):
            return surely
        if not can_resolve(pair.prompts, self.alpha):
            return self.alpha
        return self._level(self._group(cell, pair))

    def test(self, cell: Hashable, pair: Pair, *, gain: bool = False) -> SwapResult:
        """Whether a cell fell, or rose, by more than label swaps explain; asked again, the same
        answer.
        """
        key = cell, gain
        if key not in self._results:
            self._results[key] = self._test(cell, pair, gain)
        return self._results[key]

    def _test(self, cell: Hashable, pair: Pair, gain: bool) -> SwapResult:
        statistic = SwapStatistic(pair, gain=gain)
        position = statistic.position()
        p_value, cells, rejects = self._own_p_value(pair, statistic), 1, False
        if p_value <= self.alpha:
            group = self._group(cell, pair)
            adjusted = self._adjusted_p_values(group, structure_of(pair), gain)[cell]
            # With few prompts all labellings are known, those of other prompts are drawn: by chance
            # they could give a smaller one.
            p_value = max(p_value, min(adjusted * self.alpha / self._level(group), 1.0))
            cells, rejects = len(group), p_value <= self.alpha
        return SwapResult(p_value=p_value, rejects=rejects, cells=cells, position=position)

    def _own_p_value(self, pair: Pair, statistic: SwapStatistic) -> float:
        """Of one cell; most cells need a few labellings alone."""
        if not statistic.varies:
            return 1.0
        p_value, full = 1.0, math.ceil(10 / self.alpha)
        first, clear = FIRST_LOOK
        for number, bound in ((min(first, full), max(clear, self.alpha)), (full, 1.0)):
            labellings = self._labels(pair.before.prompts, structure_of(pair), number)
            values = distributions([statistic], labellings)[0]
            p_value = share_at_least(values, statistic.observed)
            if p_value > bound:
                break
        return p_value

    def _group(self, cell: Hashable, pair: Pair) -> Mapping[Hashable, Pair]:
        """The cells that share labellings with this one, itself among them."""
        group = self._groups.get(structure_of(pair), {})
        return group if cell in group else {**group, cell: pair}

    @functools.cached_property
    def _groups(self) -> dict[Structure, dict[Hashable, Pair]]:
        groups: dict[Structure, dict[Hashable, Pair]] = {}
        for cell, pair in self.family.pairs.items():
            groups.setdefault(structure_of(pair), {})[cell] = pair
        return groups

    def _level(self, group: Mapping[Hashable, Pair]) -> float:
        """The error rate of a group: alpha less the shares of other tests, split between groups in
        proportion to their cells.
        """
        family = self.family
        cells = len(family.pairs.keys() | group.keys())
        return self.alpha * (1 - family.apart / self.gates) * len(group) / cells

    def _adjusted_p_values(
        self, group: Mapping[Hashable, Pair], structure: Structure, gain: bool
    ) -> dict[Hashable, float]:
        key = tuple(group), gain
        if key not in self._adjusted:
            prompts = dict.fromkeys(name for pair in group.values() for name in pair.before.prompts)
            labellings = self._labels(tuple(prompts), structure, math.ceil(10 / self._level(group)))
            values = _distributions(list(group.values()), labellings, gain)
            self._adjusted[key] = dict(zip(group, step_down(*values), strict=True))
        return self._adjusted[key]

    def _labels(self, prompts: tuple[str, ...], structure: Structure, number: int) -> Labellings:
        key = prompts, structure, number
        if key not in self._labellings:
            runs, now_runs = structure
            self._labellings[key] = Labellings(prompts, runs=runs, now_runs=now_runs, number=number)
        return self._labellings[key]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellTest:
    """One cell's place in the test of a session."""

    session: SessionTest
    cell: Hashable

    @classmethod
    def alone(cls, level: float) -> CellTest:
        """The test of a single cell, at a level of its own."""
        session = SessionTest(alpha=level, gates=1, family=lambda: Family(pairs={}))
        return cls(session=session, cell=None)

    def level(self, pair: Pair) -> float:
        """What the smallest possible p-value must reach."""
        return self.session.level(self.cell, pair)

    def drop(self, pair: Pair) -> SwapResult:
        """Whether the cell fell by more than label swaps explain."""
        return self.session.test(self.cell, pair)

    def gain(self, pair: Pair) -> SwapResult:
        """Whether the cell rose by more than label swaps explain."""
        return self.session.test(self.cell, pair, gain=True)


def _distributions(
    pairs: Sequence[Pair], labellings: Labellings, gain: bool
) -> tuple[Array, Array]:
    """(cells,) statistics, and (cells, labellings) what they are under each labelling, in units of
    their spread; -inf where no labelling changes a cell.
    """
    size = labellings.number + (not labellings.complete)
    observed, values = np.full(len(pairs), -np.inf), np.full((len(pairs), size), -np.inf)
    for begin in range(0, len(pairs), _CELLS):
        part = range(begin, min(begin + _CELLS, len(pairs)))
        statistics = {cell: SwapStatistic(pairs[cell], gain=gain) for cell in part}
        varying = [cell for cell in part if statistics[cell].varies]
        if not varying:
            continue
        drawn = distributions([statistics[cell] for cell in varying], labellings)
        for cell, row in zip(varying, drawn, strict=True):
            mean, spread = float(row.mean()), float(row.std())
            if spread > TIE:
                observed[cell] = (statistics[cell].observed - mean) / spread
                values[cell] = (row - mean) / spread
    return observed, values


def structure_of(pair: Pair) -> Structure:
    """Cells with the same number of runs on either side share labellings."""
    return len(pair.runs), pair.now_runs


def step_down(observed: Array, values: Array) -> list[float]:
    """Adjusted p-values of the step-down max-test.

    `observed` (cells,) are the statistics, `values` (cells, labellings) what they are under each
    labelling, the observed one among them.
    """
    order = np.argsort(-observed, kind="stable")
    largest = np.full(values.shape[1], -np.inf)
    shares = np.empty(len(order))
    for cell in order[::-1]:
        np.maximum(largest, values[cell], out=largest)
        shares[cell] = share_at_least(largest, float(observed[cell]))
    shares[order] = np.maximum.accumulate(shares[order])
    adjusted: list[float] = shares.tolist()
    return adjusted
