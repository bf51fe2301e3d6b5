"""A round of a sampler that verifies a tree of drafts: what it is given, and all drafts of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch

from ...cases.tree import ROOT, Children, StaticTree
from ...common.errors import RequestError
from .exact import REPEATS, Distribution, PathFollower
from .prefix_tree import Prefix, PrefixTree, Row
from .sampler import Arrays, ContractError, Inputs, Sampler, Verify, parameters_of

DraftProbs = Literal["drawn", "model"]
"""Which distributions a sampler is given for its drafts.

`drawn`: the one that each token was drawn from, all mass on it where it was certain, and without
the elder siblings where children are never equal. `model`: the drafter's own q, whatever became of
it.
"""
_NAMES = ("target_probs", "draft_probs", "draft_tokens", "parents")
_MASK, _POSITIONS = "mask", "positions"


@dataclasses.dataclass(frozen=True)
class DraftedTree:
    """One tree of drafts."""

    tokens: Prefix
    """(nodes,)"""
    parents: tuple[int, ...]
    """(nodes,): a node before it, or -1."""
    rows: tuple[Row, ...]
    """(nodes, V): the distribution that each token was drawn from."""

    def path(self, node: int) -> Prefix:
        """The tokens from the root to a node; none for the root."""
        return () if node == ROOT else (*self.path(self.parents[node]), self.tokens[node])

    def mask(self) -> np.ndarray:
        """(nodes, nodes): whether each node's attention sees another: its ancestors and itself."""
        mask = np.eye(len(self.parents), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent != ROOT:
                mask[node] |= mask[parent]
        return mask

    def positions(self) -> list[int]:
        """(nodes,): each node's distance behind the last emitted token, from 1."""
        return [len(self.path(node)) for node in range(len(self.tokens))]


class TreeSampler(Sampler):
    """A callable that verifies trees, called with one after the other.

    With a parameter `mask` it is also given which nodes each node sees (nodes, nodes), with
    `positions` the distance of each from the last emitted token (nodes,).
    """

    def __init__(
        self,
        verify: Verify,
        arrays: Arrays = "auto",
        dtype: torch.dtype = torch.float32,
        draft_probs: DraftProbs = "drawn",
    ) -> None:
        """Raises RequestError for an unknown option."""
        super().__init__(verify, arrays, "given", False, dtype)
        if draft_probs not in ("drawn", "model"):
            raise RequestError(f'draft_probs is {draft_probs!r}; use "drawn" or "model"')
        if self.ragged:
            raise RequestError(
                "a sampler of trees with num_draft_tokens is not called in batches; wrap it in a "
                "function of one tree"
            )
        self.draft_probs = draft_probs
        known = parameters_of(verify)
        self.takes = tuple(name for name in (_MASK, _POSITIONS) if name in known)
        self.names = (*_NAMES, *self.takes)

    def run(self, inputs: Inputs, generator: np.random.Generator | torch.Generator) -> Any:
        """What it returns, unchecked."""
        named = {} if self._generator is None else {self._generator: generator}
        named |= dict(zip(self.takes, inputs[len(_NAMES) :], strict=True))
        return self._verify(*inputs[: len(_NAMES)], **named)

    def tree_arguments(self, target: PrefixTree, draft: PrefixTree, drafted: DraftedTree) -> Inputs:
        """The arguments of one call."""
        paths = [drafted.path(node) for node in range(ROOT, len(drafted.tokens))]
        rows = drafted.rows
        if self.draft_probs == "model":
            rows = tuple(draft.row(path[:-1]) for path in paths[1:])
        given = {
            "target_probs": [target.row(path) for path in paths],
            "draft_probs": rows,
            "draft_tokens": drafted.tokens,
            "parents": drafted.parents,
            _MASK: drafted.mask(),
            _POSITIONS: drafted.positions(),
        }
        return tuple(self._tree_array(given[name], name) for name in self.names)

    def _tree_array(self, numbers: Any, name: str) -> Any:
        if name == _MASK:
            return numbers.copy() if self.numpy else torch.from_numpy(numbers.copy())
        if self.numpy:
            return np.array(numbers, dtype=np.float64 if name.endswith("probs") else np.int64)
        return torch.tensor(numbers, dtype=self.dtype if name.endswith("probs") else torch.int64)


@dataclasses.dataclass(frozen=True)
class TreeRound:
    """What one round of a tree is given: the distributions of target and drafter, and the shape.

    The shape is cut where fewer tokens than children can be drafted.
    """

    target: PrefixTree
    draft: PrefixTree
    tree: StaticTree

    @property
    def k(self) -> int:
        """Most drafts accepted."""
        return self.tree.depth

    def distribution(self, sampler: TreeSampler, repeats: int = REPEATS) -> Distribution:
        """The distribution of the emitted tokens, over all drafts and draws; exact up to
        rounding.
        """
        if self.target.vocab_size != self.draft.vocab_size:
            raise RequestError(
                f"the vocabularies have {self.target.vocab_size} and {self.draft.vocab_size} "
                "tokens; use one vocabulary"
            )
        distribution: Distribution = {}
        cases = list(self.drafted(sampler))
        for drafted, _ in cases:
            self.inputs(sampler, drafted)  # distributions may be drawn when first asked for
        with PathFollower(sampler, repeats) as following:
            for drafted, chance in cases:
                for rows, weight in following.joint_distribution(self, drafted).items():
                    distribution[rows[0]] = distribution.get(rows[0], 0.0) + chance * weight
        return distribution

    def drafted(self, sampler: Sampler | None = None) -> Iterator[tuple[DraftedTree, float]]:
        """All trees that can be drafted, with their probability."""
        yield from self._grown(0, DraftedTree((), (), ()), {ROOT: ROOT}, 1.0)

    def _grown(
        self, node: int, drafted: DraftedTree, numbers: dict[int, int], chance: float
    ) -> Iterator[tuple[DraftedTree, float]]:
        """Trees with the nodes of the shape from `node` on; `numbers` are those of the drafted
        nodes before it.
        """
        if node == self.tree.nodes:
            if drafted.tokens:
                yield drafted, chance
            return
        parent = numbers.get(self.tree.parents[node])
        options = [] if parent is None else self._options(drafted, parent)
        if parent is None or not options:
            yield from self._grown(node + 1, drafted, numbers, chance)
            return
        for token, row, share in options:
            grown = DraftedTree(
                (*drafted.tokens, token), (*drafted.parents, parent), (*drafted.rows, row)
            )
            places = {**numbers, node: len(drafted.tokens)}
            yield from self._grown(node + 1, grown, places, chance * share)

    def _options(self, drafted: DraftedTree, parent: int) -> list[tuple[int, Row, float]]:
        """The next child of a drafted node: its token, the distribution that it is drawn from, and
        how likely it is.
        """
        q = self.draft.row(drafted.path(parent))
        elder = [
            token
            for token, its_parent in zip(drafted.tokens, drafted.parents, strict=True)
            if its_parent == parent
        ]
        return next_child(q, elder, self.tree.children)

    def inputs(self, sampler: Sampler, drafts: DraftedTree) -> Inputs:
        assert isinstance(sampler, TreeSampler)
        return sampler.tree_arguments(self.target, self.draft, drafts)

    def check(self, rows: Sequence[Prefix], drafts: DraftedTree) -> None:
        """Raises ContractError for tokens that no such round can emit."""
        (emitted,) = rows
        known = {drafts.path(node) for node in range(ROOT, len(drafts.tokens))}
        if not emitted or emitted[:-1] not in known:
            raise ContractError(
                f"it emitted {list(emitted)} for a tree of the paths "
                f"{sorted(map(list, known - {()}))}; return the tokens of one path from the root "
                "to the last accepted node, and one more token"
            )
        if not 0 <= emitted[-1] < self.target.vocab_size:
            raise ContractError(
                f"it emitted {list(emitted)}, but {emitted[-1]} is not a valid token id; return "
                f"ids from 0 to {self.target.vocab_size - 1}"
            )

    def __str__(self) -> str:
        return f"tree {self.tree}"


def next_child(q: Row, elder: Sequence[int], children: Children) -> list[tuple[int, Row, float]]:
    """The ways in which the next child of a node is drafted after its `elder` siblings: token,
    distribution and probability; none where no token is left.
    """
    if children == "replacement":
        return [(token, q, share) for token, share in enumerate(q) if share > 0]
    if children == "top-k":
        order = sorted(range(len(q)), key=lambda token: (-q[token], token))
        if len(elder) == len(q):
            return []
        token = order[len(elder)]
        return [(token, tuple(float(other == token) for other in range(len(q))), 1.0)]
    mass = sum(share for token, share in enumerate(q) if token not in elder)
    if mass <= 0:
        return []
    left = tuple(0.0 if token in elder else share / mass for token, share in enumerate(q))
    return [(token, left, share) for token, share in enumerate(left) if share > 0]
