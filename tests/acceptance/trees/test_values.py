"""Acceptance given the text, beside exact enumeration of the rules themselves."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from helpers.tiers import exhaustive

from pytest_specdec.acceptance.trees import siblings
from pytest_specdec.acceptance.trees.siblings import sibling_acceptance, top_k_acceptance
from pytest_specdec.acceptance.trees.values import (
    Contexts,
    depth_sums,
    path_values,
    traversal_values,
)
from pytest_specdec.cases.tree import StaticTree, tree_of
from pytest_specdec.common.errors import RequestError
from pytest_specdec.lossless.samplers.prefix_tree import PrefixTree, as_tree
from pytest_specdec.lossless.samplers.tree_rounds import TreeRound, TreeSampler
from pytest_specdec.lossless.samplers.verifiers import of_tree_rule

REPLAYED = [
    *((rule, "top-k") for rule in ("rejection", "specinfer", "traversal", "sample-match")),
    *((rule, "replacement") for rule in ("rejection", "specinfer", "traversal", "sample-match")),
    *((rule, "sampled") for rule in ("rejection", "sample-match")),
]
SHAPES = {3: ("0 1 0.0", "0 1 2", "0 0.0 0.1"), 4: ("0 1", "0 0.0 1")}


def random_tree(vocabulary: int, seed: int) -> PrefixTree:
    """A distribution of its own after every prefix."""

    def row(prefix: tuple[int, ...]) -> list[float]:
        rng = np.random.default_rng([seed, vocabulary, *prefix])
        weights: list[float] = rng.dirichlet(np.full(vocabulary, 0.7)).tolist()
        return weights

    return as_tree(row)


def replayed(
    rule: str, tree: StaticTree, target: PrefixTree, draft: PrefixTree, text: tuple[int, ...]
) -> np.ndarray:
    """(depth,): the chance to accept at least so many drafts, given that the text is emitted."""
    p, q = (np.array(rows.rows(text[:-1])) for rows in (target, draft))

    def slots(step: int, count: int) -> np.ndarray:
        if tree.children == "top-k":
            order = np.argsort(-q[step], kind="stable")
            rank = np.flatnonzero(order == text[step])
            return top_k_acceptance(rank, count)
        here = slice(step, step + 1)
        return sibling_acceptance(
            rule, tree.children, p[here], q[here], np.array(text[here]), count
        )

    if rule == "traversal" and tree.children == "replacement":
        values = traversal_values(
            tree,
            lambda step: Contexts(p[step : step + 1], q[step : step + 1], text[step : step + 1]),
            1,
        )
    else:
        values = path_values(tree, slots, 1)
    return depth_sums(tree, values)[0]


@pytest.mark.parametrize("vocabulary", [3, exhaustive(4)])
@pytest.mark.parametrize(("rule", "children"), REPLAYED)
@pytest.mark.slow
def test_replay_is_the_rule_conditional_on_the_text(
    rule: str, children: str, vocabulary: int
) -> None:
    for seed, shape in enumerate(SHAPES[vocabulary]):
        tree = tree_of(f"{shape} {children}")
        assert isinstance(tree, StaticTree)
        target, draft = random_tree(vocabulary, seed), random_tree(vocabulary, seed + 100)
        emitted = TreeRound(target, draft, tree).distribution(TreeSampler(of_tree_rule(rule)), 0)
        for text in itertools.product(range(vocabulary), repeat=tree.depth):
            reach = replayed(rule, tree, target, draft, text)
            for depth in range(1, tree.depth + 1):
                # Given one more token of the text the chance is the same.
                for longer in ((), *itertools.product(range(vocabulary), repeat=1)):
                    prefix = (*text[:depth], *longer)
                    joint = sum(
                        weight
                        for tokens, weight in emitted.items()
                        if len(tokens) > depth and tokens[: len(prefix)] == prefix
                    )
                    likely = math.prod(
                        target.row(prefix[:at])[token] for at, token in enumerate(prefix)
                    )
                    assert joint == pytest.approx(likely * reach[depth - 1], abs=2e-6)


def test_a_chain_of_rejection_sampling_is_the_known_ratio() -> None:
    p, q = np.array([[0.2, 0.8]]), np.array([[0.6, 0.4]])
    for token in range(2):
        for children in ("sampled", "replacement"):
            accepted = sibling_acceptance("rejection", children, p, q, np.array([token]), 1)
            assert accepted[0, 0] == pytest.approx(min(1, q[0, token] / p[0, token]))


def test_the_sum_over_texts_is_the_chance_to_accept_any_child() -> None:
    # Of all children without replacement none is left to reject.
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
    total = sum(
        p[token]
        * sibling_acceptance("rejection", "sampled", p[None], q[None], np.array([token]), 4).sum()
        for token in range(4)
    )
    assert total == pytest.approx(1)


def test_many_sequences_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "MOST_SEQUENCES", 10)
    p = np.full((1, 8), 1 / 8)
    with pytest.raises(RequestError, match="more than 10 sequences"):
        sibling_acceptance("rejection", "sampled", p, p, np.array([0]), 3)


@pytest.mark.parametrize(
    ("rule", "children"),
    [("traversal", "sampled"), ("specinfer", "sampled"), ("naive", "replacement")],
)
def test_what_cannot_be_replayed_is_refused(rule: str, children: str) -> None:
    p = np.full((1, 2), 0.5)
    with pytest.raises(RequestError, match="cannot be replayed"):
        sibling_acceptance(rule, children, p, p, np.array([0]), 2)  # type: ignore[arg-type]
