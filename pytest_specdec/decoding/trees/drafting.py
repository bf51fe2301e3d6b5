"""Drafting of trees: static shapes, and shapes that the drafter's own probabilities give."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from ...cases.case import Sampling
from ...cases.tree import ROOT, Children, DynamicTree, StaticTree, Tree
from ...common.errors import RequestError
from ..distributions import check_logits, filtered, log_exponentials, one_hot
from .proposers import TreeProposer


@dataclasses.dataclass(frozen=True)
class DraftedNodes:
    """The drafts of one round."""

    tokens: torch.Tensor
    """(nodes,)"""
    parents: tuple[int, ...]
    """(nodes,): a node before it, or -1."""
    rows: torch.Tensor | None
    """(nodes, vocabulary): what each token was drawn from, see `rules`; None where all were
    certain.
    """
    vocabulary: int
    margin: float = math.inf
    """Of a dynamic tree: the least gap, in logits or log-probabilities, between what was chosen and
    what was left out.
    """

    @property
    def distributions(self) -> torch.Tensor:
        """`rows`, or all mass on each token."""
        return one_hot(self.tokens, self.vocabulary) if self.rows is None else self.rows

    @property
    def depths(self) -> list[int]:
        """(nodes,): 1 for the root's children."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        return depths

    def path_of(self, tokens: Sequence[int]) -> list[int]:
        """The nodes whose tokens are the first of those given, as far as they are drafted."""
        proposed, node, path = self.tokens.tolist(), ROOT, list[int]()
        for token in tokens:
            child = next(
                (
                    child
                    for child, parent in enumerate(self.parents)
                    if parent == node and proposed[child] == token
                ),
                None,
            )
            if child is None:
                break
            path.append(child)
            node = child
        return path


def draft_tree(
    proposer: TreeProposer,
    tree: Tree,
    sampling: Sampling,
    generator: torch.Generator | None = None,
) -> DraftedNodes:
    """Draft one round's tree. Raises RequestError for drawn children at temperature 0,
    MeasurementError for NaN and infinite logits.
    """
    if isinstance(tree, DynamicTree):
        return _dynamic(proposer, tree)
    if tree.children != "top-k" and sampling.temperature == 0:
        raise RequestError(
            f"children {tree.children!r} are drawn, and temperature 0 draws nothing; use top-k"
        )
    return _static(proposer, tree, sampling, generator)


def cut(tree: Tree, depth: int) -> Tree | None:
    """The tree with at most so many levels; None where none is left."""
    if isinstance(tree, StaticTree):
        return tree.cut(depth)
    if depth < 1:
        return None
    depth = min(depth, tree.depth)
    return DynamicTree(tree.topk, depth, min(tree.nodes, tree.topk + (depth - 1) * tree.topk**2))


class _Nodes:
    """The nodes of a round as they are drafted, by numbers of their own."""

    def __init__(self) -> None:
        self.tokens: list[torch.Tensor] = []
        self.parents: dict[int, int] = {}
        self.rows: list[torch.Tensor] = []

    def add(self, token: torch.Tensor, parent: int, row: torch.Tensor | None) -> int:
        node = len(self.tokens)
        self.tokens.append(token)
        self.parents[node] = parent
        if row is not None:
            self.rows.append(row)
        return node


def _static(
    proposer: TreeProposer, tree: StaticTree, sampling: Sampling, generator: torch.Generator | None
) -> DraftedNodes:
    nodes, numbers = _Nodes(), {ROOT: ROOT}
    parents = [ROOT]
    logits = proposer.first()[None]
    for _depth in range(1, tree.depth + 1):
        check_logits(logits)
        grown: list[int] = []
        for parent, of_parent in zip(parents, logits, strict=True):
            children = tree.children_of(parent)
            drawn = _children(of_parent, len(children), tree.children, sampling, generator)
            for child, (token, row) in zip(children, drawn, strict=False):
                numbers[child] = nodes.add(token, numbers[parent], row)
                grown.append(child)
        parents = [node for node in grown if tree.children_of(node)]
        if not parents:
            break
        ours = [numbers[node] for node in parents]
        tokens = torch.stack([nodes.tokens[node] for node in ours])
        logits = proposer.expand(ours, tokens, nodes.parents)
    return DraftedNodes(
        torch.stack(nodes.tokens),
        tuple(nodes.parents.values()),
        torch.stack(nodes.rows) if nodes.rows else None,
        logits.shape[-1],
    )


def _children(
    logits: torch.Tensor,
    count: int,
    children: Children,
    sampling: Sampling,
    generator: torch.Generator | None,
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """The children of one node and what each was drawn from, from logits (vocabulary,); fewer than
    `count` where no token is left.
    """
    if children == "top-k":
        return [(token, None) for token in likeliest_tokens(logits, count)]
    kept = torch.log_softmax(filtered(logits, sampling), -1)
    q = kept.exp()
    if children == "replacement":
        clocks = log_exponentials((count, len(q)), q.device, generator)
        return [(token, q) for token in (kept - clocks).argmax(-1)]
    # The tokens whose clocks ring first, in that order, are drawn without replacement.
    order = (kept - log_exponentials(q.shape, q.device, generator)).topk(min(count, len(q)))
    drawn: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    left = q
    for token in order.indices[order.values > -torch.inf]:
        row = left / left.sum()
        drawn.append((token, row))
        left = row.clone()
        left[token] = 0.0
    return drawn


def likeliest_tokens(logits: torch.Tensor, count: int) -> torch.Tensor:
    """The tokens of the largest logits (vocabulary,), of equal ones the smaller id first."""
    best = logits.topk(min(count, len(logits)))
    edge = best.values[-1]
    if int((logits == edge).sum()) > 1:  # which of equal tokens topk takes is left open
        return logits.sort(descending=True, stable=True).indices[:count]
    order = best.indices.sort().indices
    stable = best.values[order].sort(descending=True, stable=True).indices
    return best.indices[order][stable]


def _dynamic(proposer: TreeProposer, tree: DynamicTree) -> DraftedNodes:
    nodes, scores, gaps = _Nodes(), list[torch.Tensor](), list[torch.Tensor]()
    logits, frontier = proposer.first()[None], [ROOT]
    above = logits.new_zeros(1)
    for depth in range(1, tree.depth + 1):
        if depth > 1:
            tokens = torch.stack([nodes.tokens[node] for node in frontier])
            logits = proposer.expand(frontier, tokens, nodes.parents)
        check_logits(logits)
        grown, its_scores = list[int](), list[torch.Tensor]()
        log_q = torch.log_softmax(logits.float(), -1)
        for place, parent in enumerate(frontier):
            for token in likeliest_tokens(logits[place], tree.topk):
                grown.append(nodes.add(token, parent, None))
                its_scores.append(above[place] + log_q[place, token])
        level = torch.stack(its_scores)
        gaps += [_gap(of_node, tree.topk) for of_node in logits]
        gaps.append(_gap(level, tree.topk))
        order = level.sort(descending=True, stable=True).indices[: tree.topk]
        frontier, above = [grown[at] for at in order.tolist()], level[order]
        scores += its_scores
    gaps.append(_gap(torch.stack(scores), tree.nodes))
    ranked = torch.stack(scores).sort(descending=True, stable=True).indices[: tree.nodes]
    kept = sorted(ranked.tolist())
    numbers = {ROOT: ROOT} | {node: place for place, node in enumerate(kept)}
    return DraftedNodes(
        torch.stack([nodes.tokens[node] for node in kept]),
        tuple(numbers[nodes.parents[node]] for node in kept),
        None,
        logits.shape[-1],
        float(torch.stack(gaps).min()),
    )


def _gap(values: torch.Tensor, count: int) -> torch.Tensor:
    """Between the last of the `count` largest values and the next one; infinite without one."""
    if count >= len(values):
        return values.new_tensor(math.inf, dtype=torch.float32)
    best = values.float().topk(count + 1).values
    return best[-2] - best[-1]
