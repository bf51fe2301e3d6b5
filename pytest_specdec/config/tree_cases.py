"""Cases whose rounds draft trees: what goes with them."""

from __future__ import annotations

from typing import Any

from ..cases.case import MEASURE, Case
from ..cases.tree import DynamicTree, Tree
from ..cases.tree_rules import checked_tree_rule, is_lossy_tree, not_replayable_tree
from ..common.errors import RequestError
from ..common.limits import MOST_K

_OWN = ("replay", "decode")
"""Engines that draft every tree."""
_DYNAMIC = ("sglang",)
"""Engines elsewhere that grow dynamic trees."""


def tree_rule(tree: Tree, named: str | None, temperature: float, engine: str) -> str:
    """The rule of a test whose rounds draft a tree. Raises RequestError for one that does not go
    with the tree, the temperature or the engine.
    """
    rule = checked_tree_rule(named, tree, temperature)
    if is_lossy_tree(rule, tree) and engine != "decode":
        raise RequestError(
            f"rule {rule!r} is lossy: its texts cannot be replayed with the target; use "
            "--specdec-engine=decode"
        )
    problem = not_replayable_tree(rule, tree)
    if engine == "replay" and problem is not None:
        raise RequestError(f"{problem}; use --specdec-engine=decode")
    return rule


def checked_tree_case(**settings: Any) -> Case:
    """A case. Raises RequestError for what does not go with its tree, where it has one."""
    case = Case(**settings)
    tree, engine = case.tree, case.engine
    if tree is None:
        return case
    if engine not in _OWN and not (engine in _DYNAMIC and isinstance(tree, DynamicTree)):
        raise RequestError(
            f"engine {engine!r} does not draft the tree {tree}; use --specdec-engine="
            f"{' or '.join(_OWN)}, or leave --specdec-tree out"
        )
    if tree.depth > MOST_K:
        raise RequestError(f"the tree is {tree.depth} deep; trees of at most {MOST_K} are measured")
    options = {
        "--specdec-judged": case.judged is not None,
        "--specdec-processors": case.texts.processors is not None,
        "--specdec-drafting": not case.drafting.as_target,
        f"--specdec-costs={MEASURE}": case.costs == MEASURE,
        "--specdec-batch": case.batch is not None,
    }
    for name, given in options.items():
        if given:
            raise RequestError(f"{name} does not go with trees of drafts; leave one of them out")
    if case.uses_lookup:
        raise RequestError(f"{case.drafter} grows no trees; choose another drafter")
    if case.draft_model is not None and case.depth:
        raise RequestError(
            "a draft model with MTP heads grows no trees; use --specdec-depth=0, or leave "
            "--specdec-tree out"
        )
    return case
