"""Trees have nothing to say without texts, and sizes that can be drafted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from helpers.support import EMBEDDED

from pytest_specdec import best_tree, replay_tree
from pytest_specdec.common.errors import RequestError
from pytest_specdec.speedup.tree_costs import TreeCosts

PAIR = (str(EMBEDDED / "text-target"), str(EMBEDDED / "text-draft"))
COSTS = TreeCosts(target_ms=9.0, verify_ms=9.0, node_ms=0.1, level_ms=1.0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: replay_tree(*PAIR, [], tree="0 1", temperature=0),
        lambda: best_tree(*PAIR, [], costs=COSTS, nodes=4, temperature=0),
    ],
    ids=["replay_tree", "best_tree"],
)
def test_no_text_is_refused(ask: Callable[[], Any]) -> None:
    with pytest.raises(RequestError, match="there is no text to replay; pass at least one"):
        ask()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"nodes": 0}, "at least one node, level and child; ask for some"),
        ({"nodes": 2000}, "a tree of 2000 nodes .* ask for at most 1024 nodes and 64 children"),
        ({"width": 65}, "with 65 children each is more than any engine drafts; ask for at most"),
    ],
)
def test_a_tree_of_no_size_is_refused_before_models_load(
    sizes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        best_tree("no target", "no drafter", [], costs=COSTS, **sizes)
