"""A causal language model with a cache, fed with a text and with trees of drafts after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..cache_argument import cache_name
from ..grouped_attention import grouped_attention
from ..layer_states import captured_states
from ..loading import LoadedModel
from ..ragged import new_cache
from .attention import additive, check_full_attention, seen_columns


class TreeModel:
    """One text. Columns of its tokens come first in the cache, then those of the tree's nodes; of
    these a round keeps the accepted path, in place.
    """

    def __init__(
        self, model: LoadedModel, *, keeps_hidden: bool = False, keeps_layers: Sequence[int] = ()
    ) -> None:
        check_full_attention(model.model, str(model.checkpoint.folder))
        self.model = model
        self._keeps_hidden, self._keeps_layers = keeps_hidden, tuple(keeps_layers)
        self._cache = new_cache(model.model.config)
        self._cache_name = cache_name(type(model.model).forward)
        self.length = 0
        """Tokens of the text in the cache."""
        self._paths: dict[int, list[int]] = {}
        """The columns that each node in the cache sees after the text's, its own the last."""
        self.states: torch.Tensor | None = None
        """(columns, width): of the last pass, where states are kept."""

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """Feed tokens (columns,) of the text; returns logits (vocabulary,) after the last."""
        assert not self._paths, "keep or drop the tree first"
        count = len(tokens)
        positions = torch.arange(self.length, self.length + count, device=tokens.device)
        logits = self._pass(tokens, positions, None, last=True)[-1]
        self.length += count
        return logits

    def grow(
        self, nodes: Sequence[int], tokens: torch.Tensor, parents: Mapping[int, int | None]
    ) -> torch.Tensor:
        """Feed nodes with their tokens (nodes,); returns logits (nodes, vocabulary) after each.

        `parents` gives the parent of each; None, or one that was never fed, for what follows the
        text itself.
        """
        begin = self.length + len(self._paths)
        for place, node in enumerate(nodes):
            parent = parents[node]
            above = [] if parent is None else self._paths.get(parent, [])
            self._paths[node] = [*above, begin + place]
        columns = begin + len(nodes)
        depths = [len(self._paths[node]) - 1 for node in nodes]
        positions = self.length + torch.tensor(depths, device=tokens.device)
        seen = seen_columns([self._paths[node] for node in nodes], columns, tokens.device)
        seen[:, : self.length] = True
        context = self.model.checkpoint.context
        if context is not None:
            positions = positions.clamp(max=context - 1)  # of drafts that no text has room for
        return self._pass(tokens, positions, additive(seen, self.model.model.dtype), last=False)

    def keep(self, path: Sequence[int]) -> None:
        """Make the nodes of a path the text's next tokens and drop all others."""
        if not self._paths:
            return
        columns = [self._paths[node][-1] for node in path]
        held = self.length + len(self._paths)
        end = self.length + len(columns)
        in_order = columns == list(range(self.length, end))
        for layer in self._cache.layers:
            for name in ("keys", "values"):
                states = getattr(layer, name)
                assert states.shape[2] == held
                if not in_order:
                    index = torch.tensor(columns, device=states.device)
                    states[:, :, self.length : end] = states.index_select(2, index)
                setattr(layer, name, states[:, :, :end])
        self.length, self._paths = end, {}

    def _pass(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        *,
        last: bool,
    ) -> torch.Tensor:
        few = {}
        if last and self.model.keeps_logits and len(tokens) > 1:
            few["logits_to_keep"] = torch.tensor([len(tokens) - 1], device=tokens.device)
        with (
            captured_states(self.model, self._keeps_layers) as states,
            grouped_attention(self.model.model),
        ):
            outputs = self.model.model(
                tokens[None],
                attention_mask=mask,
                position_ids=positions[None],
                use_cache=True,
                **{self._cache_name: self._cache},
                **({"output_hidden_states": True} if self._keeps_hidden else {}),
                **few,
            )
        if self._keeps_layers:
            self.states = torch.cat([states[number] for number in self._keeps_layers], -1)[0]
        elif self._keeps_hidden:
            self.states = outputs.hidden_states[-1][0]
        logits: torch.Tensor = outputs.logits[0]
        return logits
