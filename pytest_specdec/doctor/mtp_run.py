"""MTP layers under each reading, by teacher forcing.

As `decoding.mtp_forward`, which runs the written reading alone, and takes the layers apart where a
reading differs inside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from ..common.errors import RequestError
from ..decoding.cache_argument import cache_name
from ..decoding.drafters.protocol import TextBatch
from ..decoding.mtp_forward import project
from .mtp_reading import MtpReading

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

_PARTS = ("enorm", "hnorm", "eh_proj", "mtp_block")


def check_parts(heads: MtpModel, folder: Any) -> None:
    """Raises RequestError for MTP layers that cannot be taken apart: of another build, or without
    full attention.
    """
    kinds = set(getattr(heads.config, "layer_types", None) or ["full_attention"])
    known = all(hasattr(layer, part) for layer in heads.layers for part in _PARTS)
    if not known or kinds != {"full_attention"}:
        raise RequestError(
            f"the MTP layers of {folder} are of another build (layer_types: "
            f"{', '.join(sorted(kinds))}), and only those with enorm, hnorm, eh_proj and full "
            "attention are examined; measure them with replay instead"
        )


def mtp_steps(
    heads: MtpModel, reading: MtpReading, batch: TextBatch, layers: int, k: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Of each draft step the first position that it scores and its logits from there on.

    Step i uses the i-th layer, and past their number the last one again, each anchor on its own
    chain.
    """
    ids = batch.ids
    number = layers + 1 if reading.first_normed else layers
    carried = batch.layer_states[number].to(ids.device)
    used, cache, blocks = -1, DynamicCache(), list[torch.Tensor]()
    for step in range(k):
        rows = ids.shape[1] - 1 - step
        if rows < 2:
            return
        index = 0 if reading.first_layer_again else min(step, len(heads.layers) - 1)
        if index != used:
            used, cache, blocks = index, DynamicCache(), []
        blocks = [block[..., :rows, :] for block in blocks]
        blocks.append(_seen(batch, reading, rows, again=bool(blocks)))
        seen = torch.cat(blocks, -1)[:, None]
        mask = torch.zeros(seen.shape, dtype=carried.dtype, device=ids.device)
        mask.masked_fill_(~seen, torch.finfo(carried.dtype).min)
        positions = torch.arange(step + 1, step + 1 + rows, device=ids.device)[None]
        positions = positions + (reading.later_positions if step else 0)
        state = _layer(
            heads, index, reading, ids[:, step + 1 :], carried[:, :rows], positions, mask, cache
        )
        normed = _normed(heads, index, state)
        first = max(batch.begin, step + 2)
        yield first, project(heads, normed[:, first - step - 2 : -1])
        carried = normed if reading.carry_normed else state


def _seen(batch: TextBatch, reading: MtpReading, rows: int, *, again: bool) -> torch.Tensor:
    """(texts, rows, rows): which keys of one use of a layer each anchor sees: those up to its own,
    and of a layer that is used again its own alone.
    """
    device = batch.ids.device
    ones = torch.ones(rows, rows, dtype=torch.bool, device=device)
    itself = torch.eye(rows, dtype=torch.bool, device=device)
    if again:
        return itself.expand(len(batch.texts), rows, rows)
    seen = ones.tril().expand(len(batch.texts), rows, rows)
    if reading.prompt_seen:
        return seen
    starts = torch.tensor([text.prompt_length - 1 for text in batch.texts], device=device)
    new = torch.arange(rows, device=device)[None] >= starts[:, None]
    return (seen & new[:, None]) | itself


def _layer(
    heads: MtpModel,
    index: int,
    reading: MtpReading,
    tokens: torch.Tensor,
    carried: torch.Tensor,
    positions: torch.Tensor,
    mask: torch.Tensor,
    cache: DynamicCache,
) -> torch.Tensor:
    """A layer's state before its last norm, (texts, rows, width)."""
    layer: Any = heads.layers[index]
    embeds = heads.embed_tokens(tokens)
    norms = (layer.hnorm, layer.enorm) if reading.norms_swapped else (layer.enorm, layer.hnorm)
    parts = [norms[0](embeds), norms[1](carried)]
    joined = torch.cat(parts[::-1] if reading.hidden_first else parts, -1)
    kind = (
        {"layer_type": heads.config.layer_types[index]}
        if getattr(heads, "has_per_layer_rope", False)
        else {}
    )
    rotation = (
        None
        if heads.rotary_emb is None
        else heads.rotary_emb(embeds, position_ids=positions, **kind)
    )
    state: torch.Tensor = layer.mtp_block(
        layer.eh_proj(joined),
        attention_mask=mask,
        position_embeddings=rotation,
        position_ids=positions,
        **{cache_name(type(layer.mtp_block).forward): cache},
    )
    return state


def _normed(heads: MtpModel, index: int, state: torch.Tensor) -> torch.Tensor:
    """The state that logits are read from."""
    layer: Any = heads.layers[index]
    if layer.post_norm is not None:
        state = layer.post_norm(state)
    if heads.use_shared_post_norm:
        state = heads.shared_post_norm(state)
    return state
