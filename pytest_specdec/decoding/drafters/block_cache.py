"""A block drafter with a cache: the keys of the context, round after round, and one block a row.

The keys of the context are those of the target's own states, so they stay from round to round;
those of a block are of its masks, and are never kept.
"""

from __future__ import annotations

import numpy as np
import torch

from ..ragged import Rows, Sequences, moved, padding_mask
from .block_forcing import seen_context
from .block_head import BlockHead

_KeyValues = tuple[torch.Tensor, torch.Tensor]


class BlockCache:
    """The context of each row of a batch. Rows end at the same column, with padding on their
    left.
    """

    def __init__(self, head: BlockHead, k: int) -> None:
        """`k` decides how long blocks are, and so every draft."""
        self._head, self._rows = head, head.config.rows(k)
        self._cached: Rows | None = None
        """Tokens of the context in the cache, by row; None before the first round."""
        self._context: list[_KeyValues | None] = [None] * head.config.layers

    def block(self, sequences: Sequences, states: torch.Tensor) -> torch.Tensor:
        """y of one block a row: (rows, block rows, width).

        The newest emitted token of each row is its anchor; the target's joined `states` (rows,
        columns, states x width) end with the token before it.
        """
        ends = sequences.lengths - 1
        self._read(sequences, states, ends)
        anchors, positions = sequences.window(sequences.lengths, 1)
        self._columns = int(ends.max())
        return self._head.states(anchors, positions, self._rows, self._attend)[:, 0]

    def select(self, rows: Rows) -> None:
        """Keep some rows; `block` takes the columns away that only others had."""
        if self._cached is None:
            return
        self._cached = self._cached[rows]
        for layer in range(len(self._context)):
            keys, values = self._held(layer)
            index = torch.from_numpy(rows).to(keys.device)
            self._context[layer] = keys[index], values[index]

    def _read(self, sequences: Sequences, states: torch.Tensor, ends: Rows) -> None:
        """Add the tokens of the context that are not cached yet: as many in all rows, so that where
        one has more of them cached they are taken back and read again.
        """
        cached = np.zeros_like(ends) if self._cached is None else self._cached
        width = int((ends - cached).max())
        keep = (ends - width).clip(0)
        self._move(cached - keep, int(keep.max()))
        recent = states[:, -width:]
        columns = int(keep.max()) + width
        padding = padding_mask(ends, columns, states.device)
        if padding is not None:  # padding may hold NaN, which no mask hides
            recent = recent.masked_fill(~padding[:, -width:, None], 0.0)
        context = self._head.context(recent)
        _, positions = sequences.window(ends, width)
        for layer, held in enumerate(self._context):
            keys, values = self._head.context_keys(layer, context, positions)
            if held is not None:
                keys, values = torch.cat([held[0], keys], 2), torch.cat([held[1], values], 2)
            self._context[layer] = keys, values
        self._cached, self._ends = ends, ends

    def _attend(
        self, layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """What `block_head.Attend` returns."""
        held = self._held(layer)
        columns = held[0].shape[2]
        keys, values = torch.cat([held[0], keys], 2), torch.cat([held[1], values], 2)
        seen = torch.cat([self._seen(layer, columns), self._within(layer, keys.device)], -1)
        return torch.nn.functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen[:, None], enable_gqa=True
        )

    def _seen(self, layer: int, columns: int) -> torch.Tensor:
        """(rows, block rows, columns): which columns of the context each row of a block reads.

        A column holds the position that is as far before the row's end as the column is before the
        last; positions before 0 are padding.
        """
        held, _ = self._held(layer)
        ends = torch.from_numpy(self._ends).to(held.device)
        longest = int(self._ends.max())
        by_position = seen_context(self._head, layer, ends, self._rows, longest)
        positions = torch.arange(columns, device=held.device) - columns + ends[:, None]
        index = positions.clamp(min=0)[:, None].expand(-1, self._rows, -1)
        return by_position.gather(2, index) & (positions >= 0)[:, None]

    def _within(self, layer: int, device: torch.device) -> torch.Tensor:
        """(rows, block rows, block rows): which rows of its block each row reads."""
        read = torch.ones(self._rows, self._rows, dtype=torch.bool, device=device)
        if self._head.config.causal[layer]:
            read = read.tril()
        return read.expand(len(self._ends), -1, -1)

    def _held(self, layer: int) -> _KeyValues:
        held = self._context[layer]
        assert held is not None
        return held

    def _move(self, drop: Rows, width: int) -> None:
        """Take `drop` tokens off each row's end and leave `width` columns."""
        for layer, held in enumerate(self._context):
            if held is not None:
                self._context[layer] = (
                    moved(held[0], drop, 2, width),
                    moved(held[1], drop, 2, width),
                )
