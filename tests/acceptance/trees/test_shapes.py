"""The best tree, beside all trees of its size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pytest_specdec.acceptance.trees.shapes import best_shapes
from pytest_specdec.acceptance.trees.values import depth_sums, path_values
from pytest_specdec.cases.tree import StaticTree

STARTS, PLACES, STEPS, NODES = 7, 3, 3, 5


def every_shape(nodes: int) -> set[tuple[tuple[int, ...], ...]]:
    """Paths of all trees of so many nodes within the places and steps."""
    shapes: set[tuple[tuple[int, ...], ...]] = set()
    for parents in itertools.product(*(range(-1, node) for node in range(nodes))):
        tree = StaticTree(parents)
        if tree.width <= PLACES and tree.depth <= STEPS:
            shapes.add(tuple(sorted(tree.paths)))
    return shapes


@pytest.mark.parametrize("seed", range(5))
def test_no_tree_is_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    acceptance = [rng.dirichlet(np.ones(PLACES + 1), STARTS)[:, :PLACES] for _ in range(STEPS)]
    weights = rng.random(STARTS)
    best = best_shapes(acceptance, weights, NODES)

    def accepted(tree: StaticTree) -> float:
        values = path_values(tree, lambda step, count: acceptance[step][:, :count], STARTS)
        return float(weights @ depth_sums(tree, values).sum(1) / weights.sum())

    for nodes in range(1, NODES + 1):
        most = max(accepted(StaticTree.of_paths(paths)) for paths in every_shape(nodes))
        assert best[nodes].accepted == pytest.approx(most)
        assert accepted(best[nodes].tree) == pytest.approx(most)


def test_sure_drafts_make_a_chain() -> None:
    acceptance = [np.array([[1.0, 0.0]])] * 4
    assert best_shapes(acceptance, np.ones(1), 4)[4].tree == StaticTree.chain(4)


def test_more_nodes_than_places_are_left_out() -> None:
    assert set(best_shapes([np.array([[0.5, 0.2]])], np.ones(1), 4)) == {1, 2}
