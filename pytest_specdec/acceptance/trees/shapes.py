"""The best tree of so many nodes, from the chance that each child is accepted.

A round accepts the sum of its nodes' values (`values`), and a node's value depends on its ancestors
and elder siblings alone. So the best tree of n nodes is the subset of the largest sum that holds
the parent and the next elder sibling of each of its nodes: a knapsack over a binary tree, whose
branches are a node's first child and its next sibling (Sequoia, arXiv 2402.12374, for values that
are products of means by place; here they are means of products over the texts' own contexts).
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

import numpy as np

from ...cases.tree import Children, StaticTree
from ..counts import Array

CANDIDATES = 16
"""Nodes among which a tree is chosen, for each of its own."""


@dataclasses.dataclass(frozen=True)
class BestShape:
    """The best tree of some number of nodes."""

    tree: StaticTree
    accepted: float
    """Expected drafts accepted by a round at the starts it was chosen for."""


@dataclasses.dataclass
class _Candidate:
    path: tuple[int, ...]
    value: float
    child: int | None = None
    sibling: int | None = None


def best_shapes(
    acceptance: Sequence[Array],
    weights: Array,
    nodes: int,
    children: Children = "top-k",
) -> dict[int, BestShape]:
    """The best tree of every number of nodes up to `nodes`.

    `acceptance` holds by draft step the chances a_j at the position that the step drafts, (starts,
    places), for rules whose a_j do not depend on younger siblings; `weights` (starts,) is how often
    a round begins at each start. The choice is exact among the `CANDIDATES * nodes` nodes that are
    found first by falling value.
    """
    found = _candidates(acceptance, weights / weights.sum(), CANDIDATES * nodes)
    best = np.full((len(found) + 1, nodes + 1), -np.inf)
    best[:, 0] = 0.0
    split = np.zeros((len(found), nodes + 1), dtype=np.int64)
    for at in range(len(found) - 1, -1, -1):
        below = best[-1 if found[at].child is None else found[at].child]
        beside = best[-1 if found[at].sibling is None else found[at].sibling]
        for count in range(1, nodes + 1):
            sums = below[:count] + beside[count - 1 :: -1][:count]
            split[at, count] = int(sums.argmax())
            best[at, count] = found[at].value + sums[split[at, count]]
    return {
        count: BestShape(
            StaticTree.of_paths(_picked(found, split, count), children), float(best[0, count])
        )
        for count in range(1, nodes + 1)
        if np.isfinite(best[0, count])
    }


def _candidates(acceptance: Sequence[Array], weights: Array, most: int) -> list[_Candidate]:
    """Nodes by falling value as their parents and elder siblings are found; the first is the root's
    first child.
    """
    found: list[_Candidate] = []
    queue: list[tuple[float, tuple[int, ...], int | None, bool, Array]] = []

    def offer(path: tuple[int, ...], above: Array, before: int | None, beside: bool) -> None:
        step, place = len(path) - 1, path[-1]
        if step < len(acceptance) and place < acceptance[step].shape[1]:
            chance = above * acceptance[step][:, place]
            heapq.heappush(queue, (-float(weights @ chance), path, before, beside, above))

    offer((0,), np.ones(len(weights)), None, False)
    while queue and len(found) < most:
        value, path, before, beside, above = heapq.heappop(queue)
        number = len(found)
        found.append(_Candidate(path, -value))
        if before is not None and beside:
            found[before].sibling = number
        elif before is not None:
            found[before].child = number
        reached = above * acceptance[len(path) - 1][:, path[-1]]
        offer((*path, 0), reached, number, False)
        offer((*path[:-1], path[-1] + 1), above, number, True)
    return found


def _picked(found: Sequence[_Candidate], split: np.ndarray, count: int) -> list[tuple[int, ...]]:
    paths, waiting = [], [(0, count)]
    while waiting:
        at, wanted = waiting.pop()
        below = int(split[at, wanted])
        paths.append(found[at].path)
        for branch, size in ((found[at].child, below), (found[at].sibling, wanted - 1 - below)):
            if size:
                assert branch is not None
                waiting.append((branch, size))
    return paths
