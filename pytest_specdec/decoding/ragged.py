"""A model with a key-value cache whose rows keep different numbers of tokens.

All rows end at the same column and shorter ones have padding on their left, as in transformers'
batched generation, so its masks and every attention implementation apply unchanged. Rows that take
back different numbers of tokens are moved so that they end together again: the cache is never wider
than its longest row, and no hole stays in a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from ..common.errors import RequestError
from .cache_argument import cache_name
from .grouped_attention import grouped_attention
from .layer_states import captured_states
from .loading import LoadedModel
from .processors import BatchProcessors
from .roomy_cache import give_room

Rows = NDArray[np.int64]
"""(rows,): a number for each row, kept on the CPU."""

_LARGE_ROW = 1 << 13
"""Bytes of a row from which a CPU copies it by itself."""


class Sequences:
    """Token ids of a batch: `lengths` tokens are emitted, drafts are written after them."""

    def __init__(
        self,
        prompts: list[list[int]],
        room: int,
        device: torch.device,
        processors: BatchProcessors | None = None,
    ) -> None:
        self.processors = processors
        """The rows' logits processors."""
        self._room = room
        self.lengths: Rows = np.array([len(prompt) for prompt in prompts])
        self.ids = torch.zeros(
            len(prompts), int(self.lengths.max()) + room, dtype=torch.long, device=device
        )
        for row, prompt in enumerate(prompts):
            self.ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
        self._newest: tuple[Rows, torch.Tensor, torch.Tensor] | None = None
        """What `put` wrote last: where, the same on the device, and the tokens."""

    @property
    def agreed(self) -> Rows:
        """Tokens that no verification can take back and that the drafter may have seen: all but the
        newest.
        """
        return self.lengths - 1

    def put(self, offset: int | Rows, tokens: torch.Tensor) -> None:
        """Write one token a row at `offset` after the emitted ones."""
        where = self.lengths + offset
        columns, column = self._on_device(where)[:, None], tokens[:, None]
        self.ids.scatter_(1, columns, column)
        self._newest = (where, columns, column)

    def append(self, tokens: Sequence[Sequence[int]]) -> None:
        """Emit any number of tokens in each row, where there may be no room yet."""
        counts = np.array([len(row) for row in tokens])
        lengths = self.lengths + counts
        missing = int(lengths.max()) + self._room - self.ids.shape[1]
        if missing > 0:
            more = self.ids.new_zeros(len(tokens), max(missing, self.ids.shape[1]))
            self.ids = torch.cat([self.ids, more], 1)
        for row, (begin, new) in enumerate(zip(self.lengths.tolist(), tokens, strict=True)):
            self.ids[row, begin : begin + len(new)] = self.ids.new_tensor(new)
        self.lengths, self._newest = lengths, None

    def window(self, ends: Rows, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and positions (rows, width) that end before `ends`; rows too short are padded with
        their first.
        """
        if width == 1 and self._newest is not None and (self._newest[0] == ends - 1).all():
            return self._newest[2], self._newest[1]
        positions = self._on_device((ends[:, None] - np.arange(width, 0, -1)).clip(0))
        return self.ids.gather(1, positions), positions

    def drafter_logits(self, offset: int, logits: torch.Tensor) -> torch.Tensor:
        """A drafter's logits (rows, vocabulary) of the tokens at `offset` after the emitted ones,
        after the rows' processors.
        """
        if self.processors is None:
            return logits
        return self.processors.draft(self.ids, self.lengths + offset, logits[:, None])[:, 0]

    def select(self, rows: Rows) -> None:
        """Keep some rows."""
        self.lengths, self._newest = self.lengths[rows], None
        self.ids = self.ids[self._on_device(rows)]
        if self.processors is not None:
            self.processors.select(rows)

    def _on_device(self, values: Rows) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.ids.device)


@dataclasses.dataclass
class CachedModel:
    """A causal language model fed with the newest tokens of ragged rows."""

    model: LoadedModel
    reach: int
    """Columns that one `feed` or one roll-back covers at most: how far past its window a sliding
    cache remembers.
    """
    keeps_hidden: bool = False
    """Whether to hold the last hidden states, for MTP heads."""
    keeps_layers: Sequence[int] = ()
    """The states between layers to hold instead, joined in this order, by the numbers of
    `layer_states.captured_states`.
    """

    def __post_init__(self) -> None:
        self.cache = new_cache(self.model.model.config)
        self.cached: Rows | None = None
        """Positions in the cache, by row; None before the first feed."""
        self.hidden: torch.Tensor | None = None
        """(rows, columns, width): last hidden states, or the joined ones of `keeps_layers`, ending
        with the newest cached position.
        """
        self._context = self.model.checkpoint.context

    def feed(
        self, sequences: Sequences, ends: Rows, logits: int, agreed: Rows | None = None
    ) -> torch.Tensor:
        """Run the tokens not yet cached up to `ends`; returns the last `logits` columns, (rows,
        logits, vocabulary).

        Of what is cached only the first `agreed` positions of each row still hold (default: all).
        All rows run the same number of columns: where one has more of them cached, they are taken
        back and run again.
        """
        cached = np.zeros_like(ends) if self.cached is None else self.cached
        held = cached if agreed is None else np.minimum(cached, agreed)
        width, longest = int((ends - held).max()), int(ends.max())
        self.keep(np.maximum(ends - width, 0))
        tokens, positions = sequences.window(ends, width)
        if self._context is not None and longest > self._context:
            positions = positions.clamp(
                max=self._context - 1
            )  # drafts past a row's own end, thrown away later
        with (
            captured_states(self.model, self.keeps_layers) as states,
            grouped_attention(self.model.model),
        ):
            outputs = self.model.model(
                tokens,
                attention_mask=padding_mask(ends, max(longest, width), tokens.device),
                position_ids=positions,
                use_cache=True,
                **{cache_name(type(self.model.model).forward): self.cache},
                **({"output_hidden_states": True} if self.keeps_hidden else {}),
                **self._kept_logits(logits, width, tokens.device),
            )
        self.cached = ends
        if self.keeps_layers:
            self._hold(torch.cat([states[number] for number in self.keeps_layers], -1))
        elif self.keeps_hidden:
            self._hold(outputs.hidden_states[-1])
        last: torch.Tensor = outputs.logits
        return last if last.shape[1] == logits else last[:, -logits:]

    def _kept_logits(self, logits: int, width: int, device: torch.device) -> dict[str, Any]:
        """Which columns' logits the pass computes, by index: a number would cut a strided slice,
        for which a linear layer copies its matrix once a row.
        """
        if not self.model.keeps_logits or logits >= width:
            return {}
        return {"logits_to_keep": torch.arange(width - logits, width, device=device)}

    def _hold(self, new: torch.Tensor) -> None:
        held = self.hidden
        self.hidden = new if held is None else torch.cat([held[:, -self.reach :], new], 1)

    def keep(self, lengths: Rows) -> None:
        """Take back each row's cache to so many positions."""
        if self.cached is None or (lengths == self.cached).all():
            return
        drop, width = self.cached - lengths, int(lengths.max())
        roll_back(self.cache, drop, width, self.reach)
        if self.hidden is not None:
            self.hidden = moved(self.hidden, drop, 1, width)
        self.cached = lengths

    def select(self, rows: Rows) -> None:
        """Keep some rows."""
        if self.cached is None:
            return
        self.cached = self.cached[rows]
        select_rows(self.cache, rows)
        # The longest row may have left, and the cache must not be wider than those that stay.
        roll_back(self.cache, np.zeros_like(self.cached), int(self.cached.max()), self.reach)
        if self.hidden is not None:
            self.hidden = _selected(self.hidden[:, -int(self.cached.max()) :], rows)


def new_cache(config: Any) -> DynamicCache:
    """A cache of a configuration's layer types that remembers what sliding windows would drop."""
    cache = DynamicCache(config=config)
    if hasattr(cache, "activate_past_recording"):
        cache.activate_past_recording()
    give_room(cache)
    return cache


def padding_mask(lengths: Rows, width: int, device: torch.device) -> torch.Tensor | None:
    """(rows, width): which columns hold tokens where rows of `lengths` end at the last; None where
    all do.
    """
    if (lengths >= width).all():
        return None
    return torch.from_numpy(np.arange(width) >= (width - lengths)[:, None]).to(device)


def roll_back(
    cache: DynamicCache, drop: Rows, width: int, reach: int, only: int | None = None
) -> None:
    """Take `drop` positions off each row's end and leave `width` columns; `only` one layer where
    given.

    Raises RequestError for layers whose states cannot be taken back.
    """
    layers = cache.layers if only is None else cache.layers[only : only + 1]
    for layer in layers:
        if drop.any() and any(getattr(layer, "is_recurrent_states_initialized", {}).values()):
            raise RequestError(
                "the model has recurrent states (linear attention or SSM layers), which cannot "
                "take back rejected drafts; "
                "measure it with --specdec-engine=replay"
            )
        window = getattr(layer, "sliding_window", None)
        most = width if window is None else min(width, window - 1 + reach)
        for name, states in _by_name(layer):
            setattr(layer, name, moved(states, drop, states.ndim - 2, most))
        if hasattr(layer, "cumulative_length"):
            layer.cumulative_length = width
        for index, states in _convolved(layer):
            kernel = layer.conv_kernel_size[index] + reach
            kept = moved(states, drop, 2, min(width, kernel))
            # No mask hides the columns left of a row from a convolution: they must be zero.
            mask = padding_mask(states.shape[2] - drop, kept.shape[2], kept.device)
            layer.conv_states[index] = kept if mask is None else kept * mask[:, None]


def select_rows(cache: DynamicCache, rows: Rows) -> None:
    """Keep some rows of every layer."""
    for layer in cache.layers:
        for name, states in _by_name(layer):
            setattr(layer, name, _selected(states, rows))
        for index, states in _convolved(layer):
            layer.conv_states[index] = _selected(states, rows)


def _selected(states: torch.Tensor, rows: Rows) -> torch.Tensor:
    """Some rows; `states[rows]` copies numbers one by one."""
    return states.index_select(0, torch.from_numpy(rows).to(states.device))


def _by_name(layer: Any) -> list[tuple[str, torch.Tensor]]:
    """A layer's attributes that hold states, positions on the last axis but one."""
    held = ((name, getattr(layer, name, None)) for name in ("keys", "values", "indexer_keys"))
    return [(name, states) for name, states in held if states is not None and states.numel()]


def _convolved(layer: Any) -> list[tuple[int, torch.Tensor]]:
    """A layer's convolution states by their index, positions on the last axis."""
    return [
        (index, states)
        for index, states in getattr(layer, "conv_states", {}).items()
        if states is not None
    ]


def moved(states: torch.Tensor, drop: Rows, axis: int, most: int) -> torch.Tensor:
    """Take `drop` columns off each row's end along `axis` and leave at most `most`, all rows ending
    together.

    Columns left of what a row has hold anything: they are padding, or lie outside its window.
    """
    least, columns = int(drop.min()), states.shape[axis]
    width = max(min(most, columns - least), 0)
    if (drop == least).all():
        return states.narrow(axis, columns - least - width, width)
    by_rows = states.device.type == "cpu" and axis < states.ndim - 1
    if by_rows and states[0].nbytes // columns * width >= _LARGE_ROW:
        return _moved_by_rows(states, drop, axis, width)
    source = (np.arange(width) + columns - width - drop[:, None]).clip(0)
    if axis == 1 or states.ndim == 3:
        shape = [len(drop), 1, 1]
        shape[axis] = width
        index = torch.from_numpy(source).to(states.device).view(shape)
        return states.gather(
            axis, index.expand(*states.shape[:axis], width, *states.shape[axis + 1 :])
        )
    # Copying whole vectors of a flat view is several times faster than `gather`.
    rows, heads, _, size = states.shape
    blocks = (np.arange(rows * heads) * columns).reshape(rows, heads, 1)
    flat = torch.from_numpy((blocks + source[:, None]).reshape(-1)).to(states.device)
    return states.reshape(-1, size).index_select(0, flat).view(rows, heads, width, size)


def _moved_by_rows(states: torch.Tensor, drop: Rows, axis: int, width: int) -> torch.Tensor:
    """What `moved` returns, row by row: large blocks are copied faster than vectors by an index.
    numpy starts a copy sooner than torch.
    """
    shape, columns = [*states.shape], states.shape[axis]
    shape[axis] = width
    out = states.new_empty(shape)
    padding = max(width - (columns - int(drop.max())), 0)
    out.narrow(axis, 0, padding).copy_(states.narrow(axis, 0, 1))
    source, target = (
        np.moveaxis(part.view(torch.uint8).numpy(), axis, 1) for part in (states.detach(), out)
    )
    for row, end in enumerate((columns - drop).tolist()):
        begin = max(end - width, 0)
        target[row, width - (end - begin) :] = source[row, begin:end]
    return out
