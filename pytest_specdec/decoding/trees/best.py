"""The best tree for a pair: what to draft with so many nodes, from replay of given texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from ...acceptance.counts import Array
from ...acceptance.renewal import accepted_distribution, expected_counts, visits
from ...acceptance.trees.field import TreeField
from ...acceptance.trees.shapes import best_shapes
from ...cases.case import Sampling
from ...cases.texts import Text
from ...cases.tree import MOST_NODES, MOST_WIDTH, Children, StaticTree
from ...cases.tree_rules import checked_tree_rule
from ...common.errors import MeasurementError, RequestError
from ...speedup.cost_profile import CostProfile
from ...speedup.tree_costs import TreeCosts
from ..drafters.protocol import Drafter
from ..drafters.registry import DrafterSource, loaded_pair
from ..loading import LoadedModel
from ..replay import padded
from ..target_passes import ModelPasses
from .replay import TreePair, tree_fields
from .text_contexts import TextContexts, observed_contexts

_ROUNDS = 3
"""Times that a tree is chosen, each for the starts that the one before gives."""


@dataclasses.dataclass(frozen=True)
class TreeChoice:
    """A tree and what it promises."""

    tree: StaticTree
    length: float
    """Tokens per round, replayed."""
    speedup: float
    """Over plain decoding, under the costs."""


@dataclasses.dataclass(frozen=True)
class BestTree:
    """The best tree and the best chain of at most so many nodes."""

    tree: TreeChoice
    chain: TreeChoice
    of_each_depth: tuple[TreeChoice, ...]
    """The best tree of all nodes by depth, from 1."""


@torch.inference_mode()
def best_tree(
    target: str | LoadedModel,
    drafter: DrafterSource,
    texts: Sequence[Text],
    *,
    costs: CostProfile | TreeCosts,
    nodes: int = 16,
    max_depth: int = 8,
    width: int = 8,
    children: Children = "top-k",
    depth: int = 0,
    drafter_name: str = "draft",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> BestTree:
    """The tree of at most `nodes` nodes with the greatest speed-up, beside the best chain, from
    replay of texts that the target has emitted.

    Parameters
    ----------
    target, drafter, texts, temperature, top_k, top_p
        As for `replay`.
    costs
        A cost profile, or times of rounds with trees.
    nodes, max_depth, width
        The most nodes, levels, and children of a node; at most 1,024 nodes and 64 children.
    children
        How children are drafted, see `StaticTree`.
    depth
        MTP layers of ``"mtp"``; 0 for other drafters.
    drafter_name
        The drafter as cost profiles name it.

    Returns
    -------
    BestTree
        Lengths are exact replays of the trees that were chosen.

    Raises
    ------
    RequestError
        For a pair that cannot be replayed, or no or too many nodes.
    CostError
        For costs that lack times.
    MeasurementError
        For texts without room for a round.

    Examples
    --------
    >>> from pytest_specdec import best_tree, decode
    >>> from pytest_specdec.speedup.tree_costs import TreeCosts
    >>> pair = "suites/models/text-target", "suites/models/text-draft"
    >>> texts = decode(pair[0], None, ["The function returns"], k=0, temperature=0).texts
    >>> costs = TreeCosts(target_ms=9.0, verify_ms=9.0, node_ms=0.1, level_ms=1.0)
    >>> best = best_tree(*pair, texts, costs=costs, nodes=8, temperature=0)
    >>> best.tree.speedup >= best.chain.speedup
    True
    """
    _check_size(nodes, max_depth, width)
    if not texts:
        raise RequestError("there is no text to replay; pass at least one")
    rule = checked_tree_rule(None, StaticTree.chain(1, children), temperature)
    model, drafting = loaded_pair(target, drafter, depth)
    sampling = Sampling(temperature, top_k, top_p)
    known = costs if isinstance(costs, TreeCosts) else TreeCosts.of(costs, drafter_name)
    levels = min(max_depth, nodes, drafting.most_drafts or max_depth)
    contexts = _contexts(model, drafting, texts, levels, sampling, children)
    acceptance = [_by_start(contexts, step, width, rule, children) for step in range(levels)]

    def replayed(trees: Sequence[StaticTree]) -> list[tuple[TreeChoice, TreeField]]:
        pairs = [TreePair(tree, rule) for tree in trees]
        fields = tree_fields(model, drafting, texts, pairs, sampling)
        return [
            (_choice(tree, field, known), field) for tree, field in zip(trees, fields, strict=True)
        ]

    chains = [
        choice
        for choice, _ in replayed([StaticTree.chain(k, children) for k in range(1, levels + 1)])
    ]
    chosen: dict[int, TreeChoice] = {}
    every: list[TreeChoice] = []
    weights = [_uniform(contexts)] * levels
    for _ in range(_ROUNDS):
        trees = [
            shape.tree
            for level in range(levels)
            for count, shape in best_shapes(
                acceptance[: level + 1], weights[level], nodes, children
            ).items()
            if count in (nodes, nodes // 2, nodes // 4)
        ]
        results = replayed(list(dict.fromkeys(trees)))
        every += [choice for choice, _ in results]
        for choice, field in results:
            if choice.tree.nodes == nodes and _better(choice, chosen.get(choice.tree.depth)):
                chosen[choice.tree.depth] = choice
                weights[choice.tree.depth - 1] = _visited(contexts, field, choice.tree.depth)
    return BestTree(
        tree=max((*every, *chains), key=lambda choice: choice.speedup),
        chain=max(chains, key=lambda choice: choice.speedup),
        of_each_depth=tuple(chosen[level] for level in sorted(chosen)),
    )


def _check_size(nodes: int, max_depth: int, width: int) -> None:
    """Refuse trees without a node, or larger than any that is measured. Raises RequestError."""
    if nodes < 1 or max_depth < 1 or width < 1:
        raise RequestError("a tree has at least one node, level and child; ask for some")
    if nodes > MOST_NODES or width > MOST_WIDTH:
        raise RequestError(
            f"a tree of {nodes} nodes with {width} children each is more than any engine drafts; "
            f"ask for at most {MOST_NODES} nodes and {MOST_WIDTH} children"
        )


def _better(choice: TreeChoice, before: TreeChoice | None) -> bool:
    return before is None or choice.length > before.length


def _choice(tree: StaticTree, field: TreeField, costs: TreeCosts) -> TreeChoice:
    counts = expected_counts(field, tree.depth)
    if not counts.total_rounds > 0:
        raise MeasurementError(
            f"no text is long enough for a round of depth {tree.depth}; use longer texts"
        )
    length = counts.acceptance_length
    return TreeChoice(tree, length, costs.speedup(length, tree))


def _contexts(
    model: LoadedModel,
    drafter: Drafter,
    texts: Sequence[Text],
    steps: int,
    sampling: Sampling,
    children: Children,
) -> list[TextContexts]:
    drawn = children != "top-k"
    contexts: list[TextContexts] = []
    for text in texts:
        ids = padded([text.ids], model.device)
        begin = max(text.prompt_length, 1)
        passed = None
        if drawn or drafter.reads_hidden or drafter.reads_layers:
            passed = ModelPasses(model).run(
                ids,
                [text],
                begin if drawn else ids.shape[1],
                hidden=drafter.reads_hidden,
                layers=drafter.reads_layers,
            )
        contexts += observed_contexts(drafter, [text], ids, begin, steps, sampling, passed, drawn)
    return contexts


def _by_start(
    contexts: Sequence[TextContexts], step: int, width: int, rule: str, children: Children
) -> Array:
    """(starts, width): a_j of a draft step, over the starts of all texts one after another."""
    parts = []
    for text in contexts:
        of_head = text.slots(step % text.heads, width, rule, children)
        ahead = np.zeros_like(of_head)
        ahead[: max(len(of_head) - step, 0)] = of_head[step:]
        parts.append(ahead[text.text.first_draft :])
    return np.concatenate(parts)


def _uniform(contexts: Sequence[TextContexts]) -> Array:
    return np.ones(sum(len(text.tokens) - text.text.first_draft for text in contexts))


def _visited(contexts: Sequence[TextContexts], field: TreeField, k: int) -> Array:
    """(starts,): how often a round of a tree begins at each start."""
    counted, drafted = field.rounds_at(k, "inside")
    expected = visits(field, counted, accepted_distribution(field.survival(drafted, k)))
    return np.concatenate(
        [
            expected[row, text.text.first_draft : len(text.tokens)]
            for row, text in enumerate(contexts)
        ]
    )
