"""A cache of full attention that keeps room for the columns to come.

transformers' own layer copies all that it holds at every pass to append a column; at batch 1 on a
CPU that is a good part of a round.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_LEAST = 64
"""Columns of room at least; otherwise half of what is held."""


class Room:
    """A tensor (rows, heads, columns, size) of which the first columns are in use."""

    def __init__(self) -> None:
        self._whole: torch.Tensor | None = None

    def appended(self, held: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        """`held` and after it `new`, as a view.

        `held` is what the last call returned, some of its columns, or another tensor. It is copied
        only if it does not lie in the room already, or the room is too small.
        """
        columns = 0 if held is None else held.shape[2]
        end = columns + new.shape[2]
        begin = 0 if held is None else self._begin(held)
        if self._whole is None or begin is None or begin + end > self._whole.shape[2]:
            whole = new.new_empty(*new.shape[:2], end + max(end // 2, _LEAST), new.shape[3])
            if held is not None:
                whole[:, :, :columns] = held
            self._whole, begin = whole, 0
        self._whole[:, :, begin + columns : begin + end] = new
        return self._whole[:, :, begin : begin + end]

    def _begin(self, held: torch.Tensor) -> int | None:
        """The first of the room's columns that `held` shows; None where it shows others."""
        whole = self._whole
        if (
            whole is None
            or held.shape[:2] != whole.shape[:2]
            or held.stride() != whole.stride()
            or held.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr()
        ):
            return None
        return held.storage_offset() // whole.shape[3]


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """Keys and values of a layer of full attention. They may be set to others at any time."""

    _layer_type = None  # never registered with transformers
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self._rooms = Room(), Room()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new columns; returns all keys and values."""
        first = not self.is_initialized
        if first:
            self.lazy_initialization(key_states, value_states)
        keys, values = self._rooms
        self.keys = keys.appended(None if first else self.keys, key_states)
        self.values = values.appended(None if first else self.values, value_states)
        return self.keys, self.values


def give_room(cache: DynamicCache) -> None:
    """Replace the cache's empty layers of full attention; others stay as they are."""
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
