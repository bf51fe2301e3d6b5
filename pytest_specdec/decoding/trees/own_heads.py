"""Trees of the target's own MTP heads.

With s the newest position whose hidden state the target has computed, layer i reads at anchor s - i
+ d the token of a node of depth d, and what layer i - 1 handed on of the node's parent. So layer i
sees a text whose newest i tokens are those of a node's path, and one pass over all nodes of depths
1 to i with a tree's mask gives what teacher forcing along each path would. Past the last layer its
own output takes the place of the layer before, and keys follow keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from ...cases.tree import ROOT
from ...common.errors import RequestError
from ..mtp_forward import layer_step, project, reusable
from ..ragged import new_cache
from .attention import additive, seen_columns

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel


class OwnHeadsTree:
    """The trees of one text."""

    def __init__(self, heads: MtpModel, depth: int) -> None:
        kinds = getattr(heads.config, "layer_types", None) or []
        if any(kind != "full_attention" for kind in kinds):
            raise RequestError(
                "the target's MTP layers have no full attention, which a tree's mask needs; decode "
                "chains, without a tree"
            )
        self._heads, self._depth = heads, depth
        self._cache = new_cache(heads.config)
        self._tokens = torch.zeros(0, dtype=torch.long)
        self._true: list[torch.Tensor | None] = [None] * (depth + 1)
        """States of true tokens: the target's, then each layer's, (anchors, width)."""
        self._anchors = [0] * depth
        """Anchors with true tokens in each layer's cache."""
        self._nodes: dict[int, int] = {}
        """The depth of each node of the round, in the order of expansion."""
        self._given: dict[int, tuple[torch.Tensor, int]] = {}
        """Token and parent of each node."""
        self._states: list[dict[int, torch.Tensor]] = []
        """By layer and node, what is handed on, (width,)."""
        self._columns: list[dict[int, int]] = []
        """By layer and node, the column in its cache."""

    def read(self, tokens: torch.Tensor, states: torch.Tensor | None) -> None:
        assert states is not None
        self._tokens = torch.cat([self._tokens.to(tokens.device), tokens])
        self._true[0] = _joined(self._true[0], states)

    def first(self) -> torch.Tensor:
        self._nodes, self._given = {}, {}
        self._states = [{} for _ in range(self._depth)]
        self._columns = [{} for _ in range(self._depth)]
        for layer in range(self._depth):
            self._read_text(layer)
        states = self._true[1]
        assert states is not None
        return project(self._heads, states[None, -1:])[0, 0]

    def expand(
        self, nodes: Sequence[int], tokens: torch.Tensor, parents: Mapping[int, int]
    ) -> torch.Tensor:
        depth = 1 + (self._nodes[parents[nodes[0]]] if parents[nodes[0]] != ROOT else 0)
        for node, token in zip(nodes, tokens, strict=True):
            self._nodes[node], self._given[node] = depth, (token, parents[node])
        layer = min(depth, self._depth - 1)
        if depth >= self._depth:
            reusable(self._heads, layer)
            self._run(layer, nodes, reused=True)
        else:
            self._run(layer, list(self._nodes), reused=False)
        states = self._states[layer]
        return project(self._heads, torch.stack([states[node] for node in nodes])[None])[0]

    def _read_text(self, layer: int) -> None:
        """Run the anchors whose tokens the text has by now."""
        cached, end = self._anchors[layer], len(self._tokens) - 1 - layer
        self._cut(layer, cached)
        if end <= cached:
            return
        before = self._true[layer]
        assert before is not None
        positions = torch.arange(cached, end, device=self._tokens.device) + layer + 1
        seen = seen_columns(
            [range(anchor + 1) for anchor in range(cached, end)], end, self._tokens.device
        )
        state = self._layer(layer, self._tokens[positions], before[cached:end], positions, seen)
        self._true[layer + 1] = _joined(self._true[layer + 1], state)
        self._anchors[layer] = end

    def _run(self, layer: int, nodes: Sequence[int], *, reused: bool) -> None:
        """Run nodes through a layer, on what the layer before handed on of their parents, or on the
        layer's own output.
        """
        # A text may be too short to have an anchor for a node.
        before = len(self._tokens) - 2 - layer
        nodes = [node for node in nodes if before + self._nodes[node] >= 0]
        anchors, columns = self._anchors[layer], self._columns[layer]
        begin = anchors + len(columns)
        for place, node in enumerate(nodes):
            columns[node] = begin + place
        above = [self._above(layer, self._given[node][1], reused) for node in nodes]
        tokens = torch.stack([self._given[node][0] for node in nodes])
        depths = torch.tensor([self._nodes[node] for node in nodes], device=tokens.device)
        seen = seen_columns(
            [self._path_columns(layer, node) for node in nodes], begin + len(nodes), tokens.device
        )
        seen[:, :anchors] = True
        positions = len(self._tokens) - 1 + depths
        state = self._layer(layer, tokens, torch.stack(above), positions, seen)
        self._states[layer] |= dict(zip(nodes, state, strict=True))

    def _above(self, layer: int, parent: int, reused: bool) -> torch.Tensor:
        if parent != ROOT:
            return self._states[layer if reused else layer - 1][parent]
        states = self._true[layer + 1 if reused else layer]
        assert states is not None
        return states[-1]

    def _path_columns(self, layer: int, node: int) -> list[int]:
        path = []
        while node != ROOT:
            if node in self._columns[layer]:
                path.append(self._columns[layer][node])
            node = self._given[node][1]
        return path

    def _layer(
        self,
        layer: int,
        tokens: torch.Tensor,
        above: torch.Tensor,
        positions: torch.Tensor,
        seen: torch.Tensor,
    ) -> torch.Tensor:
        """A layer over tokens and states of some columns; returns states (columns, width)."""
        state = layer_step(
            self._heads,
            layer,
            self._heads.embed_tokens(tokens[None]),
            above[None],
            positions[None],
            {"attention_mask": additive(seen, above.dtype)},
            self._cache,
        )
        return state[0]

    def _cut(self, layer: int, columns: int) -> None:
        """Leave the first columns of a layer's cache."""
        held = self._cache.layers[layer] if layer < len(self._cache.layers) else None
        if held is not None and getattr(held, "is_initialized", False):
            held.keys, held.values = held.keys[:, :, :columns], held.values[:, :, :columns]


def _joined(held: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
    return new if held is None else torch.cat([held, new])
