"""Drafters that grow trees: a draft model, the target's own MTP heads, EAGLE-3 and Medusa heads.

Every node's distribution is the one that teacher forcing along its path gives, so that replay's
scores of a text hold for trees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from ...cases.tree import ROOT
from ...common.errors import RequestError
from ..drafters.draft_model import DraftModel
from ..drafters.eagle3 import Eagle3Drafter
from ..drafters.own_heads import OwnHeadsDrafter
from ..drafters.protocol import Drafter
from ..drafters.residual_heads import ResidualHeads, ResidualHeadsDrafter
from ..loading import LoadedModel
from .cached import TreeModel
from .eagle3 import Eagle3Tree
from .own_heads import OwnHeadsTree


class TreeProposer(Protocol):
    """The distributions of one text's trees, round after round."""

    def read(self, tokens: torch.Tensor, states: torch.Tensor | None) -> None:
        """Receive tokens (new,) that were emitted, and the target's states (new, width) that it
        computed; these end one token earlier.
        """

    def first(self) -> torch.Tensor:
        """Logits (vocabulary,) of the root's children."""

    def expand(
        self, nodes: Sequence[int], tokens: torch.Tensor, parents: Mapping[int, int]
    ) -> torch.Tensor:
        """Logits (nodes, vocabulary) of the children of nodes of one depth, whose tokens are
        (nodes,). Depths come in order; `parents` are those of all nodes so far.
        """


class DraftModelTree:
    """A draft model without MTP heads: its own cache, and a pass for each depth."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = TreeModel(model)
        self._unread: list[torch.Tensor] = []

    def read(self, tokens: torch.Tensor, states: torch.Tensor | None) -> None:
        self._unread.append(tokens)

    def first(self) -> torch.Tensor:
        self._model.keep(())
        tokens, self._unread = torch.cat(self._unread), []
        return self._model.read(tokens)

    def expand(
        self, nodes: Sequence[int], tokens: torch.Tensor, parents: Mapping[int, int]
    ) -> torch.Tensor:
        return self._model.grow(nodes, tokens, parents)


class ResidualHeadsTree:
    """Medusa or Hydra heads: the target's newest state for every node."""

    def __init__(self, heads: ResidualHeads) -> None:
        self._heads = heads
        self._state: torch.Tensor | None = None
        self._newest: torch.Tensor | None = None
        self._paths: dict[int, list[torch.Tensor]] = {}

    def read(self, tokens: torch.Tensor, states: torch.Tensor | None) -> None:
        assert states is not None
        self._newest, self._state = tokens[-1], states[-1]

    def first(self) -> torch.Tensor:
        assert self._newest is not None
        assert self._state is not None
        self._paths = {ROOT: [self._newest]}
        following = [self._newest[None]] if self._heads.reads_tokens else []
        return self._heads.logits(0, self._state[None], following)[0]

    def expand(
        self, nodes: Sequence[int], tokens: torch.Tensor, parents: Mapping[int, int]
    ) -> torch.Tensor:
        assert self._state is not None
        for node, token in zip(nodes, tokens, strict=True):
            self._paths[node] = [*self._paths[parents[node]], token]
        head = len(self._paths[nodes[0]]) - 1
        if not self._heads.reads_tokens:
            logits = self._heads.logits(head, self._state[None])
            return logits.expand(len(nodes), -1)
        paths = torch.stack([torch.stack(self._paths[node]) for node in nodes])
        state = self._state.expand(len(nodes), -1)
        return self._heads.logits(head, state, paths.unbind(1))


def tree_proposer(drafter: Drafter) -> TreeProposer:
    """Raises RequestError for a drafter that grows no trees."""
    if isinstance(drafter, DraftModel) and drafter.depth == 0:
        return DraftModelTree(drafter.model)
    if isinstance(drafter, OwnHeadsDrafter):
        return OwnHeadsTree(drafter.target.heads, drafter.depth)
    if isinstance(drafter, Eagle3Drafter):
        return Eagle3Tree(drafter.head)
    if isinstance(drafter, ResidualHeadsDrafter):
        return ResidualHeadsTree(drafter.heads_of_rounds)
    what = "a draft model with MTP heads" if isinstance(drafter, DraftModel) else "this drafter"
    raise RequestError(
        f"{what} grows no trees; use a draft model at depth 0, the target's own MTP heads, or "
        "EAGLE-3, Medusa or Hydra heads"
    )
