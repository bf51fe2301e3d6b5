"""MTP heads with caches: one draft token a step, starting where their model stands.

What each layer caches is what teacher forcing on the emitted text would give
(`heads.teacher_forced_hidden`): anchors whose tokens were drafted and rejected are taken back and
run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers.masking_utils import LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING

from ..common.errors import RequestError
from .cache_argument import cache_name
from .mtp_forward import layer_step, project, reusable
from .ragged import Rows, Sequences, new_cache, padding_mask, roll_back, select_rows

if TYPE_CHECKING:
    from transformers import DynamicCache
    from transformers.modeling_layers import MtpModel


class MtpCache:
    """The first `depth` MTP layers; steps past them reuse the last one on its own output."""

    def __init__(self, heads: MtpModel, depth: int, reach: int) -> None:
        self._heads, self._depth, self._reach = heads, depth, reach
        self._cache = new_cache(heads.config)
        self._cached: list[Rows] = []
        """Anchors in each layer's cache, by row."""
        self._reused = 0
        """Columns past the anchors in the last layer's cache, of steps that reused it."""
        self._step = 0

    def begin(
        self, sequences: Sequences, hidden: torch.Tensor, anchors: Rows, agreed: Rows
    ) -> None:
        """Start a chain at the newest `anchors`; `hidden` (rows, columns, width) ends with their
        hidden states.

        Tokens before `agreed` are those that the cached anchors have seen. Layer i reads token s +
        1 + i at anchor s, so its first `agreed - 1 - i` anchors stay; all layers run the same
        window, the widest that any row needs.
        """
        cached = self._cached or [np.zeros_like(anchors)] * self._depth
        stable = np.minimum(np.min(cached, axis=0), agreed - self._depth).clip(0)
        self._width = int((anchors + 1 - stable).max())
        keep = (anchors + 1 - self._width).clip(0)
        self._held = int(keep.max())
        for layer in range(self._depth if self._cached else 0):
            drop = cached[layer] - keep + (self._reused if layer == self._depth - 1 else 0)
            roll_back(self._cache, drop, self._held, self._reach, only=layer)
        self._cached = [keep] * self._depth
        self._reused, self._step = 0, 0
        self._sequences, self._hidden, self._ends = (
            sequences,
            hidden[:, -self._width :],
            anchors + 1,
        )

    def step(self) -> torch.Tensor:
        """Logits (rows, vocabulary) of the next draft token; the one before must stand in the
        sequences by now.
        """
        index, reuses = min(self._step, self._depth - 1), self._step >= self._depth
        if reuses:
            reusable(self._heads, index)
            self._reused += 1
        width = 1 if reuses else self._width
        tokens, positions = self._sequences.window(self._ends + 1 + self._step, width)
        embeds = self._heads.embed_tokens(tokens)
        columns = self._held + self._width + self._reused
        padding = padding_mask(self._ends + self._reused, columns, tokens.device)
        masks = _masks(self._heads, index, embeds, self._cache, positions, padding)
        self._hidden = layer_step(
            self._heads, index, embeds, self._hidden[:, -width:], positions, masks, self._cache
        )
        self._cached[index] = self._ends
        self._step += 1
        return project(self._heads, self._hidden[:, -1])

    def select(self, rows: Rows) -> None:
        """Keep some rows."""
        self._cached = [cached[rows] for cached in self._cached]
        select_rows(self._cache, rows)


def _masks(
    heads: MtpModel,
    index: int,
    embeds: torch.Tensor,
    cache: DynamicCache,
    positions: torch.Tensor,
    padding: torch.Tensor | None,
) -> dict[str, torch.Tensor | None]:
    """The layer's masks as `MtpModel` makes them, which knows no padding."""
    if padding is None:
        masks: dict[str, torch.Tensor | None] = heads.create_masks_for_mtp_layer(
            index, embeds, cache, positions
        )
        return masks
    kinds = getattr(heads.config, "layer_types", None)
    kind = "full_attention" if kinds is None else kinds[index]
    if kind not in ("full_attention", "sliding_attention"):
        raise RequestError(
            f"MTP layers with {kind} cannot be decoded in batches; decode with a batch size of 1"
        )
    make = LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING[kind]
    mask = make(
        config=heads.config,
        inputs_embeds=embeds,
        attention_mask=padding,
        position_ids=positions,
        layer_idx=index,
        **{cache_name(make): cache},
    )
    return {"attention_mask": mask}
