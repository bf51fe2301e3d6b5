"""Trees of an EAGLE-3 head: a node's keys follow those of its ancestors and of the anchors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...cases.tree import ROOT
from ..drafters.eagle3_head import Eagle3Head
from .attention import seen_columns

_KeyValues = tuple[torch.Tensor, torch.Tensor]


class Eagle3Tree:
    """The trees of one text. Keys of anchors stay; those of nodes last for a round."""

    def __init__(self, head: Eagle3Head) -> None:
        self._head = head
        self._anchors = 0
        """Anchors in the cache."""
        self._held: list[_KeyValues | None] = [None] * head.config.layers
        """Keys and values by layer, (1, key heads, columns, size): of anchors, then of nodes."""
        self._tokens = torch.zeros(0, dtype=torch.long)
        self._states: list[torch.Tensor] = []
        """Joined states of the anchors that are not cached yet."""
        self._carried: dict[int, torch.Tensor] = {}
        """By node, what its step handed on, (width,)."""
        self._paths: dict[int, list[int]] = {ROOT: []}
        self._seen: torch.Tensor | None = None

    def read(self, tokens: torch.Tensor, states: torch.Tensor | None) -> None:
        assert states is not None
        self._tokens = torch.cat([self._tokens.to(tokens.device), tokens])
        self._states.append(states)

    def first(self) -> torch.Tensor:
        self._forget_nodes()
        states, self._states = torch.cat(self._states), []
        begin, self._anchors = self._anchors, self._anchors + len(states)
        positions = torch.arange(begin, self._anchors, device=states.device)
        columns = [list(range(anchor + 1)) for anchor in range(begin, self._anchors)]
        self._seen = seen_columns(columns, self._anchors, states.device)
        state = self._head.step(
            self._tokens[None, begin + 1 : self._anchors + 1],
            self._head.fused(states[None]),
            positions[None],
            self._attend,
        )
        self._carried = {ROOT: self._head.handed_on(state[:, -1:])[0, 0]}
        return self._head.logits(state[0, -1])

    def expand(
        self, nodes: Sequence[int], tokens: torch.Tensor, parents: Mapping[int, int]
    ) -> torch.Tensor:
        begin = self._anchors + len(self._paths) - 1
        for place, node in enumerate(nodes):
            self._paths[node] = [*self._paths[parents[node]], begin + place]
        seen = seen_columns(
            [self._paths[node] for node in nodes], begin + len(nodes), tokens.device
        )
        seen[:, : self._anchors] = True
        self._seen = seen
        position = self._anchors - 1 + len(self._paths[nodes[0]])
        carried = torch.stack([self._carried[parents[node]] for node in nodes])
        state = self._head.step(
            tokens[None],
            carried[None],
            torch.full((1, len(nodes)), position, device=tokens.device),
            self._attend,
        )
        handed = self._head.handed_on(state)[0]
        self._carried |= dict(zip(nodes, handed, strict=True))
        return self._head.logits(state[0])

    def _forget_nodes(self) -> None:
        self._paths = {ROOT: []}
        for layer, held in enumerate(self._held):
            if held is not None:
                keys, values = held
                self._held[layer] = keys[:, :, : self._anchors], values[:, :, : self._anchors]

    def _attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """What `eagle3_head.Attend` returns."""
        held = self._held[layer]
        if held is not None:
            keys, values = torch.cat([held[0], keys], 2), torch.cat([held[1], values], 2)
        self._held[layer] = keys, values
        assert self._seen is not None
        return torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=self._seen[None, None], enable_gqa=True
        )
