"""Trees of drafts as options and markers give them."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_specdec.cases.tree import DynamicTree, StaticTree, tree_of
from pytest_specdec.cases.tree_rules import checked_tree_rule, not_replayable_tree
from pytest_specdec.common.errors import RequestError


def test_paths_are_ordered_by_depth() -> None:
    tree = StaticTree.of_paths([[0, 0], [1], [0]])
    assert tree.paths == ((0,), (1,), (0, 0))
    assert tree.widths == (2, 1)
    assert tree.children_of(-1) == (0, 1)


@pytest.mark.parametrize(
    "text", ["0 1 0.0", "0 1 2 0.0 sampled", "0 replacement", "topk=4,depth=5,nodes=16"]
)
def test_a_tree_is_written_as_it_is_read(text: str) -> None:
    assert str(tree_of(text)) == text
    assert tree_of(tree_of(text)) == tree_of(text)


def test_markers_give_paths_or_numbers() -> None:
    assert tree_of([[0], [1]]) == tree_of("0 1")
    assert tree_of({"paths": [[0], [1]], "children": "sampled"}) == tree_of("0 1 sampled")
    assert tree_of({"topk": 2, "depth": 3, "nodes": 6}) == DynamicTree(2, 3, 6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "0 nodes"),
        ("0 2", r"not \[1\]"),
        ("0.0", r"not \[0\]"),
        ("0 x", "no tree of drafts"),
        ("topk=2,depth=2", "no tree of drafts"),
        ("topk=2,depth=2,nodes=7", "at most 6 nodes"),
        ("topk=0,depth=2,nodes=7", "topk must be"),
        ({"paths": [["0"]]}, "no tree of drafts"),
        ({"topk": True, "depth": 3, "nodes": 6}, "no tree of drafts"),
        ({"paths": [[0]], "children": "all"}, "choose among"),
        (3, "no tree of drafts"),
        ([[-1]], "names no node"),
    ],
)
def test_what_is_no_tree_is_refused(value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        tree_of(value)


def test_a_cut_tree_keeps_its_upper_levels() -> None:
    tree = StaticTree.of_paths([[0], [1], [0, 0], [0, 0, 0]])
    assert tree.cut(2) == StaticTree.of_paths([[0], [1], [0, 0]])
    assert tree.cut(0) is None
    assert tree.cut(9) is tree


def test_names_tell_shapes_apart() -> None:
    names = {tree_of(text).name for text in ("0 1 0.0", "0 1 1.0", "0 1 0.0 sampled")}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("rule", "tree", "temperature", "message"),
    [
        ("block", "0 1", 1.0, "does not verify trees"),
        ("greedy", "0 1", 1.0, "does not go with temperature"),
        ("rejection", "0 1", 0.0, "does not go with temperature"),
        (None, "0 1 sampled", 0.0, "draws nothing"),
        ("specinfer", "0 1 sampled", 1.0, "biased"),
    ],
)
def test_rules_that_do_not_go_with_a_tree(
    rule: str | None, tree: str, temperature: float, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        checked_tree_rule(rule, tree_of(tree), temperature)


def test_what_is_replayed() -> None:
    assert checked_tree_rule(None, tree_of("0 1"), 1.0) == "rejection"
    assert not_replayable_tree("traversal", tree_of("0 1 replacement")) is None
    assert "siblings" in (not_replayable_tree("traversal", tree_of("0 1 sampled")) or "")
    assert "lossy" in (not_replayable_tree("naive", tree_of("0 1")) or "")
    assert not_replayable_tree("naive", tree_of("0 0.0 sampled")) is None


def test_a_setting_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="names a setting twice; keep one of them"):
        tree_of("topk=4,topk=5,depth=2,nodes=8")
