"""Samplers of trees: every rule of ours judged by exact enumeration, and what the call says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiers import exhaustive

from pytest_specdec.cases.tree import Children, StaticTree, tree_of
from pytest_specdec.common.errors import RequestError
from pytest_specdec.lossless import assert_lossless_tree, tree_output_distribution
from pytest_specdec.lossless.samplers.prefix_tree import as_tree
from pytest_specdec.lossless.samplers.tree_rounds import DraftedTree
from pytest_specdec.lossless.samplers.verifiers import of_tree_rule

EVERY: tuple[Children, ...] = ("top-k", "sampled", "replacement")


@pytest.mark.parametrize(
    ("rule", "children"),
    [
        ("rejection", EVERY),
        ("traversal", EVERY),
        ("sample-match", EVERY),
        ("specinfer", ("top-k", "replacement")),
    ],
)
@pytest.mark.parametrize("examples", [8, exhaustive(25)])
@pytest.mark.slow
def test_a_lossless_rule_passes(rule: str, children: tuple[Children, ...], examples: int) -> None:
    if rule == "specinfer" and examples == 8:
        examples = 3  # it tries siblings in random order, and each order is enumerated
    checked = assert_lossless_tree(of_tree_rule(rule), children=children, max_examples=examples)
    assert checked.method == "exact"


@pytest.mark.parametrize("children", EVERY)
@pytest.mark.slow
def test_testing_each_child_alone_is_found(children: Children) -> None:
    with pytest.raises(AssertionError, match=r"naive is not lossless \(exact\)"):
        assert_lossless_tree(of_tree_rule("naive"), children=children, vocab_size=3, nodes=2)


def test_the_ratio_p_over_q_on_certain_drafts_is_found() -> None:
    # The first candidate of a top-k tree is proposed with probability 1, whatever its q.
    with pytest.raises(AssertionError, match="not lossless"):
        assert_lossless_tree(
            of_tree_rule("rejection"), children="top-k", draft_probs="model", max_examples=20
        )


@pytest.mark.slow
def test_random_order_is_biased_without_replacement() -> None:
    with pytest.raises(AssertionError, match="not lossless"):
        assert_lossless_tree(of_tree_rule("specinfer"), children="sampled", nodes=2)


def test_a_chain_under_traversal_is_block_verification() -> None:
    # Sun et al. accept both drafts of a chain with probability w_2 = min(1, w_1 p/q).
    p, q = [0.2, 0.8], [0.6, 0.4]
    distribution = tree_output_distribution(
        of_tree_rule("traversal"), as_tree(p), as_tree(q), StaticTree.chain(2, "sampled")
    )
    both = {
        (first, second): q[first]
        * q[second]
        * min(1, min(1, p[first] / q[first]) * p[second] / q[second])
        for first in range(2)
        for second in range(2)
    }
    for path, chance in both.items():
        whole = sum(weight for emitted, weight in distribution.items() if emitted[:2] == path)
        accepted = sum(
            weight
            for emitted, weight in distribution.items()
            if len(emitted) == 3 and emitted[:2] == path
        )
        assert accepted == pytest.approx(chance, abs=1e-6)
        assert whole >= accepted


def test_masks_and_positions_are_given() -> None:
    seen: dict[str, Any] = {}

    def verify(
        target_probs: torch.Tensor,
        draft_probs: torch.Tensor,
        draft_tokens: torch.Tensor,
        parents: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> list[int]:
        seen.update(mask=mask, positions=positions, parents=parents)
        return [torch.multinomial(target_probs[0], 1, generator=generator)]

    tree = tree_of("0 1 0.0")
    tree_output_distribution(verify, as_tree([0.5, 0.5]), as_tree([0.9, 0.1]), tree)
    assert seen["parents"].tolist() == [-1, -1, 0]
    assert seen["positions"].tolist() == [1, 1, 2]
    assert seen["mask"].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]


def test_a_sampler_in_numpy() -> None:
    def verify(
        target_probs: np.ndarray,
        draft_probs: np.ndarray,
        draft_tokens: np.ndarray,
        parents: np.ndarray,
        rng: np.random.Generator,
    ) -> list[int]:
        return [rng.choice(target_probs.shape[1], p=target_probs[0])]

    assert assert_lossless_tree(verify, max_examples=10).method == "exact"


@pytest.mark.parametrize(
    ("emitted", "message"), [([1, 0], "one path from the root"), ([7], "not a valid token id")]
)
def test_tokens_that_no_round_emits_are_refused(emitted: list[int], message: str) -> None:
    def verify(target_probs: Any, draft_probs: Any, draft_tokens: Any, parents: Any) -> list[int]:
        return emitted

    with pytest.raises(AssertionError, match=message):
        assert_lossless_tree(verify, children="top-k", nodes=1, max_examples=20)


def test_an_argument_that_is_written_to_is_found() -> None:
    def verify(
        target_probs: torch.Tensor,
        draft_probs: torch.Tensor,
        draft_tokens: torch.Tensor,
        parents: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> list[int]:
        target_probs[0] = 0.5
        return [0]

    with pytest.raises(AssertionError, match="it changed its argument target_probs"):
        assert_lossless_tree(verify, max_examples=5)


def test_children_without_replacement_never_repeat() -> None:
    tree = tree_of("0 1 2 sampled")
    from pytest_specdec.lossless.samplers.tree_rounds import TreeRound

    drafted = dict(TreeRound(as_tree([0.5, 0.3, 0.2]), as_tree([0.5, 0.3, 0.2]), tree).drafted())
    assert len(drafted) == 6
    assert sum(drafted.values()) == pytest.approx(1)
    assert all(len(set(one.tokens)) == 3 for one in drafted)
    assert drafted[next(one for one in drafted if one.tokens == (0, 1, 2))] == pytest.approx(0.3)


def test_a_path_of_tokens() -> None:
    drafted = DraftedTree((4, 5, 6), (-1, 0, -1), ((), (), ()))
    assert [drafted.path(node) for node in range(-1, 3)] == [(), (4,), (4, 5), (6,)]


@pytest.mark.parametrize(
    "options", [{"vocab_size": 1}, {"children": "best"}, {"draft_probs": "all"}, {"nodes": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        assert_lossless_tree(of_tree_rule("rejection"), **options)
