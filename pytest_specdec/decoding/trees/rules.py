"""Verification rules for trees: which path of drafts is accepted, and the token after it.

Every rule sees one tree: `target` (nodes + 1, vocabulary), p after the last emitted token and after
each node; `draft` (nodes, vocabulary), the q that each node's token was drawn from: for children
drawn without replacement, the one that is left after their elder siblings; for a token that was
certain, all mass on it. `tokens` and `parents` are (nodes,), parents before their children and -1
for the root. It returns the accepted nodes from the root on and the token after them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from ...cases.tree import ROOT
from ...common.errors import RequestError
from ..distributions import draw, likeliest

Generator = torch.Generator | None
Accepted = tuple[list[int], torch.Tensor]
"""The accepted nodes, and the token after them, a number."""
TreeVerify = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, Sequence[int], Generator], Accepted
]


@dataclasses.dataclass(frozen=True)
class TreeRule:
    """A verification rule for trees."""

    name: str
    verify: TreeVerify


def recursive_rejection(
    target: torch.Tensor,
    draft: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
    generator: Generator = None,
) -> Accepted:
    """Accept a child x with probability min(1, p/q), and after a rejection go on with its residual
    max(p - q, 0) for p (SpecTr, arXiv 2310.15141; RSD, arXiv 2402.14160; Sequoia, arXiv
    2402.12374; EAGLE-2, arXiv 2406.16858, whose drafts are certain).
    """
    return _top_down(target, draft, tokens, parents, generator, _in_order)


def specinfer(
    target: torch.Tensor,
    draft: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
    generator: Generator = None,
) -> Accepted:
    """Multi-step speculative sampling (SpecInfer, arXiv 2305.09781, algorithm 2): as
    `recursive_rejection`, and the next child is chosen at random.

    Lossless for children that were drawn independently, each from its own q: q of a child that was
    drawn without replacement holds only while its elder siblings are known to be rejected.
    """
    return _top_down(target, draft, tokens, parents, generator, _at_random)


def traversal(
    target: torch.Tensor,
    draft: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
    generator: Generator = None,
) -> Accepted:
    """Traversal verification (arXiv 2505.12398): leaves first, whole paths at once; block
    verification on a chain.

    A node of weight w, the chance that it or a draft below it is accepted, tries its children: x
    has weight min(1, w p/q). After a child that was not accepted p is the normalised residual
    max(w p - q, 0), of mass m, and w is m / (m + 1 - w). Without children left a node is accepted
    with probability w.
    """
    children = _children(parents)

    def accepted(node: int, weight: torch.Tensor, p: torch.Tensor) -> Accepted | None:
        for child in children[node]:
            token, q = tokens[child], draft[child]
            if q[token] <= 0:
                continue
            below = (weight * p[token] / q[token]).clamp(max=1.0)
            if (found := accepted(child, below, target[child + 1])) is not None:
                return [child, *found[0]], found[1]
            residual = (weight * p - q).clamp(min=0)
            mass = residual.sum()
            if mass <= 0:  # a rejection that rounding alone opens, or one of no probability
                return None if node != ROOT else ([], draw(p, generator))
            weight, p = mass / (mass + 1 - weight), residual / mass
        if node != ROOT and not _coin(target, generator) < weight:
            return None
        return [], draw(p, generator)

    found = accepted(ROOT, torch.ones((), device=target.device, dtype=target.dtype), target[0])
    assert found is not None
    return found


def sample_match(
    target: torch.Tensor,
    draft: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
    generator: Generator = None,
) -> Accepted:
    """Draw the target's own token after each accepted node and accept the first child equal to
    it.
    """
    return _matched(lambda p: int(draw(p, generator)), target, tokens, parents)


def greedy(
    target: torch.Tensor,
    draft: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
    generator: Generator = None,
) -> Accepted:
    """Accept the children that are the target's arg-max."""
    return _matched(lambda p: int(likeliest(p)), target, tokens, parents)


def naive(
    target: torch.Tensor,
    draft: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
    generator: Generator = None,
) -> Accepted:
    """Test every child against the unmodified p. Lossy: a token that two children propose, or that
    follows rejected siblings, is emitted too often.
    """
    children, node, path = _children(parents), ROOT, list[int]()
    while True:
        p = residual = target[node + 1]
        for child in children[node]:
            token, q = tokens[child], draft[child]
            if _accepts(p[token], q[token], generator):
                break
            residual = (p - q).clamp(min=0)
        else:
            return path, draw(residual if residual.sum() > 0 else p, generator)
        path.append(child)
        node = child


def _top_down(
    target: torch.Tensor,
    draft: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
    generator: Generator,
    next_child: Callable[[list[int], torch.Tensor, Generator], int],
) -> Accepted:
    children, node, path = _children(parents), ROOT, list[int]()
    while True:
        p, left = target[node + 1], list(children[node])
        accepted = None
        while left and accepted is None:
            child = left.pop(next_child(left, target, generator))
            token, q = tokens[child], draft[child]
            if _accepts(p[token], q[token], generator):
                accepted = child
            else:
                p = _residual(p, q)
        if accepted is None:
            return path, draw(p, generator)
        path.append(accepted)
        node = accepted


def _in_order(left: list[int], target: torch.Tensor, generator: Generator) -> int:
    return 0


def _at_random(left: list[int], target: torch.Tensor, generator: Generator) -> int:
    if len(left) == 1:
        return 0
    return int(draw(torch.full((len(left),), 1 / len(left), device=target.device), generator))


def _accepts(p: torch.Tensor, q: torch.Tensor, generator: Generator) -> bool:
    """Whether a child is accepted with probability min(1, p/q)."""
    return bool(q > 0) and bool(_coin(p, generator) * q < p)


def _coin(beside: torch.Tensor, generator: Generator) -> torch.Tensor:
    return torch.rand((), generator=generator, device=beside.device)


def _residual(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """max(p - q, 0), normalised; p itself where only rounding rejected."""
    residual = (p - q).clamp(min=0)
    mass = residual.sum()
    return residual / mass if bool(mass > 0) else p


def _matched(
    chosen: Callable[[torch.Tensor], int],
    target: torch.Tensor,
    tokens: torch.Tensor,
    parents: Sequence[int],
) -> Accepted:
    """Follow the target's own choices as far as they are drafted."""
    children, node, path = _children(parents), ROOT, list[int]()
    proposed = tokens.tolist()
    while True:
        token = chosen(target[node + 1])
        child = next((child for child in children[node] if proposed[child] == token), None)
        if child is None:
            return path, torch.tensor(token, device=target.device)
        path.append(child)
        node = child


def _children(parents: Sequence[int]) -> dict[int, list[int]]:
    """The children of each node and of the root."""
    children: dict[int, list[int]] = {node: [] for node in range(ROOT, len(parents))}
    for node, parent in enumerate(parents):
        children[int(parent)].append(node)
    return children


_TREE_RULES = {
    "rejection": recursive_rejection,
    "specinfer": specinfer,
    "traversal": traversal,
    "sample-match": sample_match,
    "greedy": greedy,
    "naive": naive,
}


def tree_rule_named(name: str) -> TreeRule:
    """Raises RequestError for a rule that knows no trees."""
    if name not in _TREE_RULES:
        raise RequestError(
            f"rule {name!r} does not verify trees; choose among {', '.join(_TREE_RULES)}"
        )
    return TreeRule(name, _TREE_RULES[name])
