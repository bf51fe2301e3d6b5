"""MTP heads run by teacher forcing: every anchor of a text at once.

Head `i` (0-based) anchored at position `s` reads the hidden state at `s` handed on by head `i-1`
(head 0: the model's own last hidden state) and the embedding of token `s+1+i`; it predicts token
`s+2+i`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from transformers import DynamicCache

from ..common.errors import RequestError
from .cache_argument import cache_name

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel


def teacher_forced_hidden(
    heads: MtpModel,
    input_ids: torch.Tensor,
    hidden: torch.Tensor,
    depth: int | None = None,
    steps: int | None = None,
) -> Iterator[torch.Tensor]:
    """Yield the hidden states of draft step i = 0, 1, ..., each (batch, length - 1 - i, width).

    `input_ids` is (batch, length); `hidden` is the model's last hidden state, (batch, length,
    width). The first `depth` steps (default: all layers) use a layer each; further ones, up to
    `steps` (default: depth), reuse the last of them recursively, each anchor on its own chain.
    Raises RequestError for reuse of a layer that has no full attention.
    """
    depth = heads.num_mtp_layers if depth is None else depth
    steps = depth if steps is None else steps
    for index in range(min(depth, steps)):
        if index == depth - 1 and steps > depth:
            yield from _reused_last_layer(heads, input_ids, hidden, index, steps)
            return
        positions = _positions(input_ids, index)
        tokens = input_ids[:, index + 1 :]
        embeds = heads.embed_tokens(tokens)
        masks = heads.create_masks_for_mtp_layer(index, embeds, None, positions)
        hidden = layer_step(
            heads, index, embeds, hidden[:, : tokens.shape[1]], positions, masks, None
        )
        yield hidden


def checkpoint_tensors(heads: MtpModel, layers: int) -> dict[str, torch.Tensor]:
    """The MTP layers' tensors as checkpoints name them: decoder layers past a model's own `layers`,
    for safetensors.
    """
    tensors = {}
    for name, tensor in heads.state_dict().items():
        if name.startswith("layers."):
            _, index, rest = name.split(".", 2)
            tensors[f"model.layers.{layers + int(index)}.{rest.replace('mtp_block.', '')}"] = (
                tensor.contiguous().clone()
            )
    return tensors


def project(heads: MtpModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits through the head that MTP layers share with the model."""
    logits: torch.Tensor = heads._project_to_logits(hidden)
    return logits


def reusable(heads: MtpModel, index: int) -> None:
    """Refuse to reuse a layer on its own output that has no full attention. Raises RequestError."""
    kinds = getattr(heads.config, "layer_types", None)
    if kinds is not None and kinds[index] != "full_attention":
        raise RequestError(
            f"MTP layers with {kinds[index]} cannot be reused past their number; lower k to "
            "--specdec-depth"
        )


def _reused_last_layer(
    heads: MtpModel, input_ids: torch.Tensor, hidden: torch.Tensor, index: int, steps: int
) -> Iterator[torch.Tensor]:
    """Layer `index` at its own step and at every later one, all anchors in one pass per step.

    At step i an anchor sees the layer's true keys up to itself and the keys of its own earlier
    reuses (the mask that EAGLE-3 calls training-time test, arXiv 2503.01840): keys are laid out
    step after step, so the mask is causal over the true keys and diagonal over each later block.
    """
    reusable(heads, index)
    cache = DynamicCache()
    blocks: list[torch.Tensor] = []
    for step in range(index, steps):
        tokens = input_ids[:, step + 1 :]
        rows = tokens.shape[1]
        if rows == 0:
            return
        ones = torch.ones(rows, rows, dtype=torch.bool, device=tokens.device)
        blocks = [block[:rows] for block in blocks]
        blocks.append(
            ones.tril()
            if step == index
            else torch.eye(rows, dtype=torch.bool, device=tokens.device)
        )
        seen = torch.cat(blocks, dim=1)[None, None]
        mask = torch.zeros(seen.shape, dtype=hidden.dtype, device=hidden.device)
        mask.masked_fill_(~seen, torch.finfo(hidden.dtype).min)
        embeds, positions = heads.embed_tokens(tokens), _positions(input_ids, step)
        hidden = layer_step(
            heads, index, embeds, hidden[:, :rows], positions, {"attention_mask": mask}, cache
        )
        yield hidden


def layer_step(
    heads: MtpModel,
    index: int,
    embeds: torch.Tensor,
    hidden: torch.Tensor,
    positions: torch.Tensor,
    masks: Mapping[str, torch.Tensor | None],
    cache: DynamicCache | None,
) -> torch.Tensor:
    """One MTP layer over embedded tokens (batch, rows, width), with masks by the layer's own names;
    keys join the cache.

    `MtpModel.forward_layer` does the same; older versions of transformers lack it, and it takes no
    custom mask.
    """
    layer = heads.layers[index]
    hidden = layer(
        embeds,
        hidden,
        position_embeddings=_rotary(heads, index, embeds, positions),
        position_ids=positions,
        **{cache_name(type(layer).forward): cache},
        **masks,
    )
    return heads.shared_post_norm(hidden) if heads.use_shared_post_norm else hidden


def _rotary(heads: MtpModel, index: int, embeds: torch.Tensor, positions: torch.Tensor) -> Any:
    """Rotary embeddings of one layer; some models (Mellum, MiMo) rotate each layer type at its own
    frequency.
    """
    if heads.rotary_emb is None:
        return None
    kind = (
        {"layer_type": heads.config.layer_types[index]}
        if getattr(heads, "has_per_layer_rope", False)
        else {}
    )
    return heads.rotary_emb(embeds, position_ids=positions, **kind)


def _positions(input_ids: torch.Tensor, step: int) -> torch.Tensor:
    return torch.arange(step + 1, input_ids.shape[1], device=input_ids.device)[None]
