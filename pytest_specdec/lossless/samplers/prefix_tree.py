"""Laws that depend on what stands before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ...common.errors import RequestError

Prefix = tuple[int, ...]
Row = tuple[float, ...]
LawOf = Callable[[Prefix], Sequence[float]]
Laws = Sequence[float] | Sequence[Sequence[float]] | Mapping[Prefix, Sequence[float]] | LawOf
"""One law for everywhere; a list of laws by position; a mapping from prefixes; or a function of the prefix."""

_TOTAL = 1e-3
"""How far from one the sum of given probabilities may be before it is taken for a mistake."""


class PrefixTree:
    """The law of the next token, after every prefix; computed when asked for."""

    def __init__(self, laws: Laws) -> None:
        laws = laws.tolist() if hasattr(laws, "tolist") else laws  # tensors and arrays
        self._law_of = _law_of(laws)
        self.by_position = not callable(laws) and not isinstance(laws, Mapping)
        """Whether only the length of the prefix matters."""
        self._rows: dict[Prefix, Row] = {}

    def row(self, prefix: Prefix) -> Row:
        """Probabilities (vocabulary,) that sum to one. Raises RequestError for a law that is none."""
        if prefix not in self._rows:
            self._rows[prefix] = _normalised(self._law_of(prefix), prefix)
        return self._rows[prefix]

    @property
    def vocab_size(self) -> int:
        return len(self.row(()))

    def rows(self, tokens: Prefix) -> list[Row]:
        """The laws along a path, from the empty prefix up to and including behind its last token."""
        return [self.row(tokens[:length]) for length in range(len(tokens) + 1)]

    def mapped(self, change: Callable[[Row], Sequence[float]]) -> PrefixTree:
        """A tree with every law changed in the same way."""
        changed = PrefixTree(lambda prefix: change(self.row(prefix)))
        changed.by_position = self.by_position
        return changed


def as_tree(laws: PrefixTree | Laws) -> PrefixTree:
    return laws if isinstance(laws, PrefixTree) else PrefixTree(laws)


def _law_of(laws: Laws) -> LawOf:
    if callable(laws):
        return laws
    if isinstance(laws, Mapping):
        return laws.__getitem__
    by_depth = [laws if isinstance(one, int | float) else one for one in laws]
    if not by_depth:
        raise RequestError("a law is empty; give probabilities")
    return lambda prefix: by_depth[min(len(prefix), len(by_depth) - 1)]  # type: ignore[return-value]


def _normalised(law: Sequence[float], prefix: Prefix) -> Row:
    row = [float(weight) for weight in law]
    total = math.fsum(row)
    if not row or min(row) < 0 or not abs(total - 1) < _TOTAL:
        raise RequestError(f"the law after {prefix} is {row}, which sums to {total:g}; give probabilities")
    return tuple(weight / total for weight in row)
