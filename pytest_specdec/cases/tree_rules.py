"""Verification rules for trees by name, and what each goes with."""

from __future__ import annotations

from ..common.errors import RequestError
from .rules import default_rule
from .tree import Children, StaticTree, Tree

TREE_RULES = ("rejection", "greedy", "specinfer", "traversal", "sample-match", "naive")
"""`decoding.trees.rules` verifies by them."""
LOSSY_TREE_RULES = ("naive",)


def checked_tree_rule(rule: str | None, tree: Tree, temperature: float) -> str:
    """The rule, or the temperature's own.

    Raises RequestError for one that knows no trees, that does not go with the temperature, or that
    is biased for the tree's children.
    """
    rule = default_rule(temperature) if rule is None else rule
    if rule not in TREE_RULES:
        raise RequestError(
            f"rule {rule!r} does not verify trees; choose among {', '.join(TREE_RULES)}"
        )
    if (rule == "greedy") != (temperature == 0):
        raise RequestError(
            f"rule {rule!r} does not go with temperature {temperature:g}; greedy is temperature 0"
        )
    if temperature == 0 and tree.children != "top-k":
        raise RequestError(
            f"children {tree.children!r} are drawn, and temperature 0 draws nothing; use top-k"
        )
    if rule == "specinfer" and tree.children == "sampled" and tree.width > 1:
        raise RequestError(
            "rule 'specinfer' is biased for children drawn without replacement, because it tests "
            "them in another order than they were drawn in; use rule 'rejection', or children "
            "'replacement'"
        )
    return rule


def is_lossy_tree(rule: str, tree: Tree) -> bool:
    """Whether the rule's output does not follow the target."""
    return rule in LOSSY_TREE_RULES and tree.width > 1


def not_replayable_tree(rule: str, tree: Tree) -> str | None:
    """Why what a rule accepts of a text does not follow from the text; None where it does."""
    if is_lossy_tree(rule, tree):
        return f"rule {rule!r} is lossy: its texts do not follow the target's distribution"
    if rule == "traversal" and tree.children == "sampled" and tree.width > 1:
        return (
            "traversal verification of children drawn without replacement depends on which "
            "siblings were rejected, at every depth"
        )
    return None


def effective_children(tree: StaticTree) -> Children:
    """How children are drafted; a single child is drawn in the same way with and without
    replacement.
    """
    return "replacement" if tree.children == "sampled" and tree.width == 1 else tree.children
