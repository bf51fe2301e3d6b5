"""Distributions of the next token that depend on the tokens before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ...common.errors import RequestError

Prefix = tuple[int, ...]
Row = tuple[float, ...]
DistributionOf = Callable[[Prefix], Sequence[float]]
Distributions = (
    Sequence[float] | Sequence[Sequence[float]] | Mapping[Prefix, Sequence[float]] | DistributionOf
)
"""One distribution for everywhere; a list of distributions by position; a mapping from prefixes; or
a function of the prefix.
"""

_TOTAL = 1e-3
"""How far from one the sum of given probabilities may be before it is taken for a mistake."""


class PrefixTree:
    """The distribution of the next token, after every prefix; computed when asked for."""

    def __init__(self, distributions: Distributions) -> None:
        distributions = (
            distributions.tolist() if hasattr(distributions, "tolist") else distributions
        )  # tensors and arrays
        self._distribution_of = _distribution_of(distributions)
        self.by_position = not callable(distributions) and not isinstance(distributions, Mapping)
        """Whether only the length of the prefix matters."""
        self._rows: dict[Prefix, Row] = {}

    def row(self, prefix: Prefix) -> Row:
        """Probabilities (vocabulary,) that sum to one. Raises RequestError for invalid
        probabilities.
        """
        if prefix not in self._rows:
            self._rows[prefix] = _normalised(self._distribution_of(prefix), prefix)
        return self._rows[prefix]

    @property
    def vocab_size(self) -> int:
        return len(self.row(()))

    def rows(self, tokens: Prefix) -> list[Row]:
        """The distributions along a path, from that of the empty prefix to the one after its last
        token.
        """
        return [self.row(tokens[:length]) for length in range(len(tokens) + 1)]

    def mapped(self, change: Callable[[Row], Sequence[float]]) -> PrefixTree:
        """A tree with every distribution changed in the same way."""
        changed = PrefixTree(lambda prefix: change(self.row(prefix)))
        changed.by_position = self.by_position
        return changed


def as_tree(distributions: PrefixTree | Distributions) -> PrefixTree:
    return distributions if isinstance(distributions, PrefixTree) else PrefixTree(distributions)


def _distribution_of(distributions: Distributions) -> DistributionOf:
    if callable(distributions):
        return distributions
    if isinstance(distributions, Mapping):
        return distributions.__getitem__
    by_depth = [
        distributions if isinstance(level, int | float) else level for level in distributions
    ]
    if not by_depth:
        raise RequestError("a distribution is empty; give probabilities")
    return lambda prefix: by_depth[min(len(prefix), len(by_depth) - 1)]  # type: ignore[return-value]


def _normalised(distribution: Sequence[float], prefix: Prefix) -> Row:
    row = [float(weight) for weight in distribution]
    total = math.fsum(row)
    if not row or min(row) < 0 or not abs(total - 1) < _TOTAL:
        raise RequestError(
            f"the distribution after {prefix} is {row}, which sums to {total:g}; give probabilities"
        )
    return tuple(weight / total for weight in row)
