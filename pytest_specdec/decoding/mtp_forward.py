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
from .strides import regular

if TYPE_CHECKING:
    from transformers.modeling_layers import MtpModel

_KeyValues = tuple[torch.Tensor, torch.Tensor]
_ANCHORS = {"cpu": (1 << 20, 64), "cuda": (1 << 24, 512)}
"""Numbers of a mask over a whole text up to which all its anchors attend at once, and anchors that
do where it would be larger.
"""


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
    logits: torch.Tensor = heads._project_to_logits(regular(hidden))
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
    """Layer `index` at its own step and at every later one, all anchors at once."""
    reusable(heads, index)
    length = input_ids.shape[1]
    whole, part = _ANCHORS.get(input_ids.device.type, _ANCHORS["cpu"])
    chains = _Chains(heads, index, None if (steps - index) * length**2 <= whole else part)
    for step in range(index, steps):
        tokens = input_ids[:, step + 1 :]
        rows = tokens.shape[1]
        if rows == 0:
            return
        embeds, positions = heads.embed_tokens(tokens), _positions(input_ids, step)
        hidden = chains.step(embeds, hidden[:, :rows], positions)
        yield hidden


class _Chains:
    """A layer that is reused on its own output, at every anchor of a text.

    At each step an anchor sees the layer's true keys up to itself and the keys of its own earlier
    reuses (the mask that EAGLE-3 calls training-time test, arXiv 2503.01840). The layer is
    transformers' own and attends in its own way, so it is called on a few anchors at a time, with
    a cache of what those can see: the true keys up to the last of them, and their own reuses. No
    mask is as large as steps times length squared. `part` is that number of anchors; None takes all
    of a short text at once.
    """

    def __init__(self, heads: MtpModel, index: int, part: int | None) -> None:
        self._heads, self._index, self._part = heads, index, part
        self._steps: list[_KeyValues] = []
        """What the layer caches of all anchors, step after step: first the true keys and values,
        then those of each reuse, (batch, heads, anchors, size) each.
        """

    def step(
        self, embeds: torch.Tensor, hidden: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """The layer over embedded tokens and states (batch, anchors, width) of all anchors."""
        anchors = embeds.shape[1]
        rotation = rotary(self._heads, self._index, embeds, positions)
        states: list[torch.Tensor] = []
        cached: list[_KeyValues] = []
        for begin in range(0, anchors, self._part or anchors):
            at = slice(begin, min(begin + (self._part or anchors), anchors))
            earlier = [*self._steps] or ([_joined(cached)] if cached else [])
            cache, mask = self._seen(earlier, at, hidden)
            states.append(
                layer_step(
                    self._heads,
                    self._index,
                    embeds[:, at],
                    hidden[:, at],
                    positions[:, at],
                    {"attention_mask": mask},
                    cache,
                    _cut(rotation, at),
                )
            )
            held, own = cache.layers[self._index], slice(at.start - at.stop, None)
            cached.append((held.keys[..., own, :], held.values[..., own, :]))
        self._steps.append(_joined(cached))
        return torch.cat(states, 1)

    def _seen(
        self, earlier: list[_KeyValues], at: slice, hidden: torch.Tensor
    ) -> tuple[DynamicCache, torch.Tensor]:
        """What the anchors `at` can see of earlier steps, which their own keys join, and the mask
        (1, 1, anchors, keys): causal over the true keys, diagonal over each reuse.
        """
        cache, seen, blocks = DynamicCache(), [], []
        rows = torch.arange(at.start, at.stop, device=hidden.device)[:, None]
        for step, (keys, values) in enumerate(earlier):
            kept = slice(None) if self._part is None else slice(at.start if step else 0, at.stop)
            columns = torch.arange(keys.shape[-2], device=hidden.device)[kept]
            blocks.append(columns == rows if step else columns <= rows)
            seen.append((keys[..., kept, :], values[..., kept, :]))
        if seen:
            cache.update(*_joined(seen), self._index)
        itself = rows[:, 0]
        blocks.append(itself == rows if self._steps else itself <= rows)
        shown = torch.cat(blocks, 1)[None, None]
        mask = torch.zeros(shown.shape, dtype=hidden.dtype, device=hidden.device)
        return cache, mask.masked_fill_(~shown, torch.finfo(hidden.dtype).min)


def _joined(parts: list[_KeyValues]) -> _KeyValues:
    keys, values = zip(*parts, strict=True)
    return torch.cat(keys, -2), torch.cat(values, -2)


def _cut(rotation: Any, at: slice) -> Any:
    """Rotary embeddings (..., positions, size) of some positions, as `rotary` returns them."""
    if rotation is None or isinstance(rotation, torch.Tensor):
        return rotation if rotation is None else rotation[..., at, :]
    return tuple(part[..., at, :] for part in rotation)


def layer_step(
    heads: MtpModel,
    index: int,
    embeds: torch.Tensor,
    hidden: torch.Tensor,
    positions: torch.Tensor,
    masks: Mapping[str, torch.Tensor | None],
    cache: DynamicCache | None,
    rotation: Any = None,
) -> torch.Tensor:
    """One MTP layer over embedded tokens (batch, rows, width), with masks by the layer's own names;
    keys join the cache. `rotation` is that of the positions where the caller has computed it.

    `MtpModel.forward_layer` does the same; older versions of transformers lack it, and it takes no
    custom mask.
    """
    layer = heads.layers[index]
    hidden = layer(
        embeds,
        hidden,
        position_embeddings=rotary(heads, index, embeds, positions)
        if rotation is None
        else rotation,
        position_ids=positions,
        **{cache_name(type(layer).forward): cache},
        **masks,
    )
    return heads.shared_post_norm(hidden) if heads.use_shared_post_norm else hidden


def rotary(heads: MtpModel, index: int, embeds: torch.Tensor, positions: torch.Tensor) -> Any:
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
