"""The acceptance field of a tree: how deep a round at each start of a text is accepted."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ..counts import Array
from ..renewal import AcceptanceField


@dataclasses.dataclass(frozen=True)
class TreeField(AcceptanceField):
    """`reach[n, t, i]`: the chance that a round at position t of text n accepts at least i + 1
    drafts, conditional on the text.

    A depth's chance is the sum over its nodes. It does not depend on the nodes below, so a tree
    that is cut near the text's end has the same.
    """

    reach: Array = dataclasses.field(default_factory=lambda: np.zeros((0, 0, 0)))
    """(texts, longest, depth)"""

    @classmethod
    def of(
        cls,
        reach: Array,
        *,
        prompts: tuple[str, ...],
        categories: tuple[str, ...],
        starts: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> TreeField:
        """The field of some texts, with 0 in the place of what lies past the end of each."""
        steps = np.arange(reach.shape[2])
        position = np.arange(reach.shape[1])[:, None] + steps
        inside = np.where(position < lengths[:, None, None], reach, 0.0)
        return cls(
            prompts=prompts,
            categories=categories,
            accept=inside[:, None, :, 0],
            starts=starts,
            lengths=lengths,
            reach=inside,
        )

    def first_heads(self, heads: int) -> TreeField:
        """The field itself: heads are not told apart."""
        return self

    def select(self, rows: slice | NDArray[np.int64]) -> TreeField:
        """The field of some texts."""
        picked = range(len(self.prompts))[rows] if isinstance(rows, slice) else rows.tolist()
        return TreeField(
            prompts=tuple(self.prompts[row] for row in picked),
            categories=tuple(self.categories[row] for row in picked),
            accept=self.accept[rows],
            starts=self.starts[rows],
            lengths=self.lengths[rows],
            reach=self.reach[rows],
        )

    def survival(self, drafted: NDArray[np.int64], k: int) -> Array:
        """(texts, longest, k): the chance that a round at each start accepts depths 1..i + 1 of
        those it drafted.
        """
        steps = np.arange(k)
        reach = np.zeros((*self.reach.shape[:2], k))
        known = min(k, self.reach.shape[2])
        reach[..., :known] = self.reach[..., :known]
        return np.where(steps < drafted[..., None], reach, 0.0)
