"""The network of an EAGLE-3 head, as its definition has it.

For an anchor t, the newest token whose states h the target has computed, and the draft step
s = 1, 2, ...:

    g_t  = fc(norms of the joined h_t)
    c    = g_t at step 1, later what step s - 1 handed on
    e, n = input_layernorm(embedding of x_{t+s}), hidden_norm(c)
    y    = (n if norm_before_residual else c) + attention([e, n]), then the MLP with its residual
    q    = softmax(lm_head(norm(y))), of the token x_{t+s+1}
    handed on: norm(y) if norm_output else y

Attention sees the keys of step 1 at the anchors up to t and those of the chain's own later steps.
Which keys those are is the caller's part (`Attend`): `eagle3_forcing` has all anchors at once,
`eagle3_cache` one chain a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from ...checkpoints.eagle3_config import EAGLE_THETA
from ...common.errors import RequestError
from ..loading import LoadedModel

if TYPE_CHECKING:
    from ...checkpoints.eagle3_checks import Eagle3Files

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Called with the number of a layer and its queries (rows, heads, columns, size), keys and values
(rows, key heads, columns, size); returns what the queries read, shaped as they are.
"""
_Rotation = tuple[torch.Tensor, torch.Tensor]


class Eagle3Head(nn.Module):
    """A head with its weights, in its target's number format and on its device."""

    def __init__(self, files: Eagle3Files, target: LoadedModel) -> None:
        super().__init__()
        config, tensors = files.config, files.checkpoint.tensors
        width, states = config.width, len(files.aux_layers)
        joined = tensors["fc.weight"].shape[1]
        self.config, self.vocabulary = config, config.vocabulary
        self._embeddings: torch.Tensor
        with torch.device("meta"):
            self.fc = nn.Linear(joined, width, bias=False)
            self.input_norm = LlamaRMSNorm(joined, config.eps) if config.norm_before_fc else None
            self.fc_norm = nn.ModuleList(
                LlamaRMSNorm(joined // states, config.eps)
                for _ in range(states if config.fc_norm else 0)
            )
            self.layers = nn.ModuleList(_Layer(files, index) for index in range(config.layers))
            self.norm = LlamaRMSNorm(width, config.eps)
            self.lm_head = nn.Linear(width, tensors["lm_head.weight"].shape[0], bias=False)
        self._load(files, target)
        self._rotary = _rotary(files).to(target.device)
        ids = torch.from_numpy(files.target_ids).to(target.device)
        self._target_ids = None if len(ids) == config.vocabulary else ids

    def fused(self, states: torch.Tensor) -> torch.Tensor:
        """g of anchors: (rows, columns, width) from the target's joined states (rows, columns,
        states x target width).
        """
        if self.input_norm is not None:
            states = self.input_norm(states)
        if self.fc_norm:
            parts = states.chunk(len(self.fc_norm), -1)
            states = torch.cat(
                [norm(part) for norm, part in zip(self.fc_norm, parts, strict=True)], -1
            )
        fused: torch.Tensor = self.fc(states)
        return fused

    def step(
        self, tokens: torch.Tensor, carried: torch.Tensor, positions: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """y of one draft step: (rows, columns, width).

        `tokens` and `positions` are (rows, columns); `carried` is c, (rows, columns, width).
        """
        embedded = nn.functional.embedding(tokens, self._embeddings)
        rotation = self._rotary(carried, position_ids=positions)
        state = carried
        for layer in self.layers:
            state = layer(embedded, state, rotation, attend)
        return state

    def handed_on(self, state: torch.Tensor) -> torch.Tensor:
        """What the next step takes for c, from this step's y."""
        handed: torch.Tensor = self.norm(state) if self.config.norm_output else state
        return handed

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """Of all tokens of the target (..., vocabulary), from y; -inf for those that the head
        cannot draft.
        """
        logits: torch.Tensor = self.lm_head(self.norm(state))
        if self._target_ids is None:
            return logits
        whole = logits.new_full((*logits.shape[:-1], self.vocabulary), -torch.inf)
        return whole.index_copy_(-1, self._target_ids, logits)

    def _load(self, files: Eagle3Files, target: LoadedModel) -> None:
        from safetensors.torch import load_file

        held = {
            name: tensor
            for path in files.checkpoint.weight_files
            for name, tensor in load_file(path).items()
        }
        first = files.layer_prefix(0)
        renamed = {
            f"layers.0.{name.removeprefix(first)}" if name.startswith(first) else name: tensor
            for name, tensor in held.items()
        }
        dtype = target.model.dtype
        self.load_state_dict(
            {name: renamed[name].to(target.device, dtype) for name in self.state_dict()},
            assign=True,
        )
        embeddings = (
            renamed["embed_tokens.weight"].to(target.device, dtype)
            if files.own_embeddings
            else target.model.get_input_embeddings().weight.detach()
        )
        self.register_buffer("_embeddings", embeddings, persistent=False)
        self.requires_grad_(False).eval()


class _Layer(nn.Module):
    """A decoder layer; the first one reads the token's embedding beside the state."""

    def __init__(self, files: Eagle3Files, index: int) -> None:
        super().__init__()
        config, self._index = files.config, index
        self._before_residual = config.norm_before_residual
        self.self_attn = _Projections(files, index)
        self.input_layernorm = LlamaRMSNorm(config.width, config.eps)
        self.hidden_norm = LlamaRMSNorm(config.width, config.eps) if index == 0 else None
        self.post_attention_layernorm = LlamaRMSNorm(config.width, config.eps)
        self.mlp = LlamaMLP(
            LlamaConfig(
                hidden_size=config.width,
                intermediate_size=config.mlp_width,
                num_attention_heads=1,
            )
        )

    def forward(
        self, embedded: torch.Tensor, state: torch.Tensor, rotation: _Rotation, attend: Attend
    ) -> torch.Tensor:
        residual = state
        if self.hidden_norm is not None:
            normed = self.hidden_norm(state)
            residual = normed if self._before_residual else state
            inputs = torch.cat([self.input_layernorm(embedded), normed], -1)
        else:
            inputs = self.input_layernorm(state)
        queries, keys, values = self.self_attn(inputs, rotation)
        read = attend(self._index, queries, keys, values).transpose(1, 2).flatten(2)
        state = residual + self.self_attn.o_proj(read)
        fed: torch.Tensor = state + self.mlp(self.post_attention_layernorm(state))
        return fed


class _Projections(nn.Module):
    """Queries, keys and values of a layer, (rows, heads, columns, size), rotated."""

    def __init__(self, files: Eagle3Files, index: int) -> None:
        super().__init__()
        config, held = files.config, files.checkpoint.tensors
        prefix = f"{files.layer_prefix(index)}self_attn."
        reads = config.width if index else 2 * config.width
        self._size = size = config.head_dim

        def linear(name: str, inputs: int, outputs: int) -> nn.Linear:
            return nn.Linear(inputs, outputs, bias=f"{prefix}{name}.bias" in held)

        self.q_proj = linear("q_proj", reads, config.heads * size)
        self.k_proj = linear("k_proj", reads, config.kv_heads * size)
        self.v_proj = linear("v_proj", reads, config.kv_heads * size)
        self.o_proj = linear("o_proj", config.heads * size, config.width)
        normed = f"{prefix}q_norm.weight" in held
        self.q_norm = LlamaRMSNorm(size, config.eps) if normed else None
        self.k_norm = LlamaRMSNorm(size, config.eps) if normed else None

    def forward(
        self, inputs: torch.Tensor, rotation: _Rotation
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        queries, keys, values = (
            projection(inputs).unflatten(-1, (-1, self._size))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.q_norm is not None and self.k_norm is not None:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        turned = apply_rotary_pos_emb(queries.transpose(1, 2), keys.transpose(1, 2), *rotation)
        return turned[0], turned[1], values.transpose(1, 2)


def _rotary(files: Eagle3Files) -> LlamaRotaryEmbedding:
    """Raises RequestError for rotary parameters that transformers does not take."""
    config = files.config
    named: dict[str, Any] = {"rope_theta": config.theta or EAGLE_THETA, **config.rope}
    try:
        return LlamaRotaryEmbedding(
            LlamaConfig(
                hidden_size=config.heads * config.head_dim,
                num_attention_heads=config.heads,
                head_dim=config.head_dim,
                max_position_embeddings=config.context or 2048,
                rope_parameters=named,
            )
        )
    except Exception as error:  # malformed parameters can break transformers anywhere
        raise RequestError(
            f"{config.path} names rotary parameters that transformers does not take "
            f"({type(error).__name__}: {str(error)[:200]}); correct them"
        ) from error
