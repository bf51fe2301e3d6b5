"""The values of a tree's nodes: the chance that a round at a start accepts each, given the text.

A node's value depends on its ancestors and elder siblings alone, whatever else is in the tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...cases.tree import ROOT, StaticTree
from ..counts import Array

Slots = Callable[[int, int], Array]
"""Of a draft step and a number of children: their chances a_j by start, (starts, count), at the
position that the step drafts.
"""


def path_values(tree: StaticTree, slots: Slots, starts: int) -> Array:
    """(nodes, starts): products of a_j along each node's path."""
    values = np.zeros((tree.nodes, starts))
    for node, (parent, depth, place) in enumerate(
        zip(tree.parents, tree.depths, tree.places, strict=True)
    ):
        above = 1.0 if parent == ROOT else values[parent]
        count = len(tree.children_of(parent))
        values[node] = above * slots(depth - 1, count)[:, place]
    return values


@dataclasses.dataclass(frozen=True)
class Contexts:
    """The distributions that a draft step meets at each start, and the text's own tokens."""

    p: Array
    """(starts, vocabulary): the target's"""
    q: Array
    """(starts, vocabulary): the drafter's"""
    tokens: Sequence[int] | NDArray[np.int64]
    """(starts,): the text's token there"""


def traversal_values(tree: StaticTree, contexts: Callable[[int], Contexts], starts: int) -> Array:
    """(nodes, starts): the values under traversal verification of independent children.

    A node that is reached with weight w is accepted, or a draft below it is, with probability w.
    Its children take u = w p in turn: child x has weight min(1, u(x)/q(x)), and where it is not
    accepted u becomes max(u - q, 0) / (m + 1 - w) and w becomes m / (m + 1 - w), m the mass of
    max(u - q, 0). That happens with probability 1 - w + m, whichever x was drafted.
    """
    values, weights = np.zeros((tree.nodes, starts)), np.ones((tree.nodes + 1, starts))
    reached = np.ones((tree.nodes + 1, starts))
    depths = (*tree.depths, 0)
    for parent in (ROOT, *range(tree.nodes)):
        children = tree.children_of(parent)
        if not children:
            continue
        here, at = contexts(depths[parent]), np.arange(starts)
        tokens = np.asarray(here.tokens)
        p_y, q_y = here.p[at, tokens], here.q[at, tokens]
        weight, arrived = weights[parent].copy(), reached[parent].copy()
        u = weight[:, None] * here.p
        for child in children:
            with np.errstate(divide="ignore", invalid="ignore"):
                below = np.where(q_y > 0, np.minimum(u[at, tokens] / q_y, 1.0), 0.0)
            reached[child] = arrived * q_y / p_y
            weights[child] = below
            values[child] = reached[child] * below
            left = np.maximum(u - here.q, 0.0)
            mass = left.sum(1)
            rejected = 1 - weight + mass
            arrived = arrived * rejected
            divisor = np.where(rejected > 0, rejected, 1.0)
            u, weight = left / divisor[:, None], mass / divisor
    return values


def depth_sums(tree: StaticTree, values: Array) -> Array:
    """(starts, depth): the chance to accept at least so many drafts, from values (nodes,
    starts).
    """
    reach = np.zeros((values.shape[1], tree.depth))
    for node, depth in enumerate(tree.depths):
        reach[:, depth - 1] += values[node]
    return np.clip(reach, 0.0, 1.0)
