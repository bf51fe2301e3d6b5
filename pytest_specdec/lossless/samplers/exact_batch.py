"""The exact distribution of a batch whose rows have different numbers of drafts: each row's own,
and all rows' together.

Rows keep apart if each follows its own target, and all of them together the product of their
targets.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from .exact import (
    REPEATS,
    Distribution,
    DistributionGap,
    JointDistribution,
    PathFollower,
    RoundInput,
    distribution_gap,
)
from .prefix_tree import Prefix
from .sampler import Inputs, Sampler, check_emitted

Drafts = tuple[Prefix | None, ...]
"""Of each row; None for a sampler that draws its own."""


@dataclasses.dataclass(frozen=True)
class BatchInput:
    """Rounds of several requests in one call. Rows may have 0 drafts, but not all of them."""

    rows: tuple[RoundInput, ...]

    def __str__(self) -> str:
        return f"in a batch whose rows have {self.counts} drafts"

    @property
    def counts(self) -> list[int]:
        """The number of drafts of each row."""
        return [row.k for row in self.rows]

    def drafted(self, sampler: Sampler) -> Iterator[tuple[Drafts, float]]:
        """All drafts that can be drawn, with their probability."""
        for rows in itertools.product(*(list(row.drafted(sampler)) for row in self.rows)):
            yield tuple(drafts for drafts, _ in rows), math.prod(chance for _, chance in rows)

    def inputs(self, sampler: Sampler, drafts: Drafts) -> Inputs:
        """Raises RequestError where a sampler is to draw its own drafts from distributions that
        depend on them.
        """
        width = max(self.counts)
        targets, distributions, tokens = [], [], []
        for row, row_drafts in zip(self.rows, drafts, strict=True):
            sampler.check_distributions(row.target, row.draft)
            along, missing = row_drafts if row_drafts is not None else (0,) * row.k, width - row.k
            padding = [(1 / row.target.vocab_size,) * row.target.vocab_size] * missing
            targets.append([*row.target.rows(along), *padding])
            distributions.append([*row.draft.rows(along)[: row.k], *padding])
            tokens.append([*along, *[0] * missing])
        return sampler.arguments(targets, distributions, tokens, self.counts)

    def check(self, rows: Sequence[Prefix], drafts: Drafts) -> None:
        """Raises ContractError for tokens that no such batch can emit."""
        for at, (emitted, row_drafts, row) in enumerate(zip(rows, drafts, self.rows, strict=True)):
            check_emitted(emitted, row_drafts, row.k, row.target.vocab_size, f"{self}, row {at}")

    def distribution(self, sampler: Sampler, repeats: int = REPEATS) -> JointDistribution:
        """The distribution of what the rows emit together, see `output_distribution` and
        `PathFollower`.
        """
        distribution: JointDistribution = {}
        cases = list(self.drafted(sampler))
        for drafts, _ in cases:
            self.inputs(sampler, drafts)  # distributions may be drawn when they are first asked for
        with PathFollower(sampler, repeats) as following:
            for drafts, chance in cases:
                for emitted, weight in following.joint_distribution(self, drafts).items():
                    distribution[emitted] = distribution.get(emitted, 0.0) + chance * weight
        return {
            emitted: weight for emitted, weight in distribution.items() if self._possible(emitted)
        }

    def _possible(self, rows: Sequence[Prefix]) -> bool:
        """False for the result of a path that fails, which only rounding makes possible (see
        `PathFollower`).
        """
        return all(
            0 < len(emitted) <= row.k + 1
            and all(0 <= token < row.target.vocab_size for token in emitted)
            for emitted, row in zip(rows, self.rows, strict=True)
        )


@dataclasses.dataclass(frozen=True)
class RowDistributionGap:
    """What is wrong in the distribution of one row."""

    row: int
    error: DistributionGap


@dataclasses.dataclass(frozen=True)
class RowDependence:
    """The tokens of all rows whose probability is furthest from the product of the rows' own."""

    tokens: tuple[Prefix, ...]
    expected: float
    got: float


def batch_error(
    distribution: JointDistribution, batch: BatchInput, tolerance: float
) -> RowDistributionGap | RowDependence | None:
    """Compare the distribution of a batch with the targets of its rows, first row by row."""
    for at, row in enumerate(batch.rows):
        marginal: Distribution = {}
        for emitted, weight in distribution.items():
            marginal[emitted[at]] = marginal.get(emitted[at], 0.0) + weight
        if (error := distribution_gap(marginal, row.target, row.k, tolerance)) is not None:
            return RowDistributionGap(at, error)
    return _dependence(distribution, batch, tolerance * len(batch.rows))


def _dependence(
    distribution: JointDistribution, batch: BatchInput, tolerance: float
) -> RowDependence | None:
    """Of the rows' tokens, each row continued by its target; of the first tokens alone where these
    show it.
    """
    seen = [
        {emitted: at for at, emitted in enumerate(dict.fromkeys(row))}
        for row in zip(*distribution, strict=True)
    ]
    got = np.zeros([len(row) for row in seen])
    for emitted, weight in distribution.items():
        got[tuple(row[tokens] for row, tokens in zip(seen, emitted, strict=True))] += weight
    targets = [_target(row) for row in batch.rows]
    for axis, (row, target) in enumerate(zip(seen, targets, strict=True)):
        continued = np.stack([_continued(target, emitted).ravel() for emitted in row])
        got = np.moveaxis(np.tensordot(got, continued, (axis, 0)), -1, axis)
    got = got.reshape([size for target in targets for size in target.shape])
    gaps = got - functools.reduce(np.multiply.outer, targets)
    ends = list(itertools.accumulate(target.ndim for target in targets))
    later = tuple(axis for axis in range(gaps.ndim) if axis not in (0, *ends[:-1]))
    for summed in (later, ()):
        shown, emitted_so = gaps.sum(summed), got.sum(summed)
        worst = np.unravel_index(int(np.abs(shown).argmax()), shown.shape)
        if not abs(shown[worst]) <= tolerance:
            lengths = [1 if summed else target.ndim for target in targets]
            parts, tokens = iter(int(index) for index in worst), []
            for length in lengths:
                tokens.append(tuple(itertools.islice(parts, length)))
            return RowDependence(
                tuple(tokens), float(emitted_so[worst] - shown[worst]), float(emitted_so[worst])
            )
    return None


def _target(row: RoundInput) -> np.ndarray:
    """(V, ...): the target's probability of each k + 1 tokens."""
    size = row.target.vocab_size
    chances = [
        math.prod(row.target.row(tokens[:at])[token] for at, token in enumerate(tokens))
        for tokens in itertools.product(range(size), repeat=row.k + 1)
    ]
    return np.array(chances).reshape([size] * (row.k + 1))


def _continued(target: np.ndarray, emitted: Prefix) -> np.ndarray:
    """(V, ...): the distribution of k + 1 tokens which begin with those that were emitted."""
    distribution = np.zeros_like(target)
    chance = target[emitted].sum()
    distribution[emitted] = target[emitted] / chance if chance > 0 else 0.0
    return distribution
