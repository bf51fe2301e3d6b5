"""What a round with a tree takes, in milliseconds. Plain Python."""

from __future__ import annotations

import dataclasses
import statistics

from ..cases.drafter import DRAFT
from ..cases.tree import Tree
from ..common.errors import CostError
from .cost_profile import CostProfile


@dataclasses.dataclass(frozen=True)
class TreeCosts:
    """A round's time as a sum: of the target's pass over the nodes, and of the drafter's passes,
    one for each level.
    """

    target_ms: float
    """A step without drafts."""
    verify_ms: float
    """A pass of the target over the newest token alone."""
    node_ms: float
    """Each node of it in addition."""
    level_ms: float
    """A pass of the drafter over one token."""
    grown_ms: float = 0.0
    """Each token of such a pass beyond the first."""

    @classmethod
    def of(cls, costs: CostProfile, drafter: str = DRAFT) -> TreeCosts:
        """From a profile of chains: lines through its times over k. Passes of the drafter over
        several nodes, which it does not know, count as passes over one.

        Raises CostError for a profile without target_ms, or with too few times.
        """
        target_ms = costs.target_ms
        if target_ms is None or len(costs.verify) < 2:
            raise CostError(
                "the cost profile has no target_ms or too few verify times for trees; measure one "
                "with: python -m pytest_specdec costs --k 2,4,8,16"
            )
        slope, base = statistics.linear_regression(list(costs.verify), list(costs.verify.values()))
        levels = {}
        for k in costs.verify:
            try:
                levels[k] = costs.draft_ms(k, 1 if drafter == "mtp" else 0, drafter=drafter)
            except CostError:
                continue
        if not levels:
            raise CostError(f"the cost profile has no times of {drafter!r} without MTP layers")
        level = statistics.fmean(ms / k for k, ms in levels.items())
        return cls(
            target_ms=target_ms,
            verify_ms=max(base, 0.0),
            node_ms=max(slope, 0.0),
            level_ms=level,
        )

    def round_ms(self, tree: Tree) -> float:
        """Milliseconds of a round of a tree."""
        beyond = max(tree.parents_read - (tree.depth - 1), 0)
        return (
            self.verify_ms
            + self.node_ms * tree.nodes
            + self.level_ms * tree.depth
            + self.grown_ms * beyond
        )

    def speedup(self, length: float, tree: Tree) -> float:
        """Of rounds that emit so many tokens, over plain decoding."""
        return length * self.target_ms / self.round_ms(tree)
