"""An EAGLE-3 head with a cache: one chain of drafts a row, step by step.

The keys of step 1 are those of emitted tokens and of the target's own states, so they stay from
round to round; those of later steps are of drafts, and each round starts without them.
"""

from __future__ import annotations

import numpy as np
import torch

from ..ragged import Rows, Sequences, moved, padding_mask
from .eagle3_head import Eagle3Head

_KeyValues = tuple[torch.Tensor, torch.Tensor]


class Eagle3Chain:
    """A chain of each row of a batch. Rows end at the same column, with padding on their left."""

    def __init__(self, head: Eagle3Head) -> None:
        self._head = head
        self._cached: Rows | None = None
        """Anchors in the cache, by row; None before the first round."""
        self._anchors: list[_KeyValues | None] = [None] * head.config.layers
        """Keys and values of step 1, by layer: (rows, key heads, columns, size)."""
        self._later: list[list[_KeyValues]] = []
        """Those of the chain's later steps, by layer, a column each."""

    def begin(self, sequences: Sequences, states: torch.Tensor) -> None:
        """Start a round: the newest emitted token of each row follows its newest anchor, with
        which the target's joined `states` (rows, columns, states x target width) end.

        Of the anchors that are not cached yet all rows run as many; where one has more of them
        cached, they are taken back and run again.
        """
        ends = sequences.lengths - 1
        cached = np.zeros_like(ends) if self._cached is None else self._cached
        width = int((ends - cached).max())
        keep = (ends - width).clip(0)
        self._move(cached - keep, int(keep.max()))
        self._later = [[] for _ in self._anchors]
        self._columns = int(keep.max()) + width
        self._padding = padding_mask(ends, self._columns, states.device)
        recent = states[:, -width:]
        if self._padding is not None:  # padding may hold NaN, which no mask hides
            recent = recent.masked_fill(~self._padding[:, -width:, None], 0.0)
        self._sequences, self._ends, self._step = sequences, ends, 0
        self._carried = self._head.fused(recent)
        self._cached = ends

    def step(self) -> torch.Tensor:
        """Logits (rows, vocabulary) of the next draft token; the one before must stand in the
        sequences by now.
        """
        width = self._carried.shape[1]
        tokens, positions = self._sequences.window(self._ends + 1 + self._step, width)
        tokens = self._head.read_tokens(self._step, tokens)
        state = self._head.step(tokens, self._carried, positions - 1, self._attend)
        self._carried = self._head.handed_on(state[:, -1:])
        self._step += 1
        return self._head.logits(state[:, -1])

    def select(self, rows: Rows) -> None:
        """Keep some rows; `begin` takes the columns away that only others had."""
        if self._cached is None:
            return
        self._cached = self._cached[rows]
        for layer in range(len(self._anchors)):
            keys, values = self._held(layer)
            index = torch.from_numpy(rows).to(keys.device)
            self._anchors[layer] = keys[index], values[index]

    def _attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """What `eagle3_head.Attend` returns."""
        if self._step == 0:
            held = self._anchors[layer]
            if held is not None:
                keys, values = torch.cat([held[0], keys], 2), torch.cat([held[1], values], 2)
            self._anchors[layer] = keys, values
        else:
            self._later[layer].append((keys, values))
            chain = [self._held(layer), *self._later[layer]]
            keys, values = (torch.cat(parts, 2) for parts in zip(*chain, strict=True))
        return torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=self._mask(queries, keys), enable_gqa=True
        )

    def _mask(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor | None:
        """(rows or 1, 1, columns, keys): each column sees those before it that hold tokens, and
        itself; None where that is all of them.
        """
        width, columns = queries.shape[2], keys.shape[2]
        if width == 1 and self._padding is None:
            return None
        seen = torch.ones(width, columns, dtype=torch.bool, device=queries.device)
        itself = seen.tril(columns - width).triu(columns - width)
        seen = seen.tril(columns - width)[None]
        if self._padding is not None:
            holds = torch.nn.functional.pad(self._padding, (0, columns - self._columns), value=True)
            seen = (seen & holds[:, None]) | itself
        return seen[:, None]

    def _held(self, layer: int) -> _KeyValues:
        held = self._anchors[layer]
        assert held is not None
        return held

    def _move(self, drop: Rows, width: int) -> None:
        """Take `drop` anchors off each row's end and leave `width` columns."""
        for layer, held in enumerate(self._anchors):
            if held is not None:
                self._anchors[layer] = (
                    moved(held[0], drop, 2, width),
                    moved(held[1], drop, 2, width),
                )
