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

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from ...checkpoints.eagle3_config import Eagle3Config
from ...checkpoints.eagle3_rotary import EAGLE_THETA
from ...common.errors import RequestError
from ..layer_stream import weight_of
from ..loading import LoadedModel
from ..strides import regular

if TYPE_CHECKING:
    from ...checkpoints.eagle3_checks import Eagle3Files

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Called with the number of a layer and its queries (rows, heads, columns, size), keys and values
(rows, key heads, columns, size); returns what the queries read, shaped as they are.
"""
_Rotation = tuple[torch.Tensor, torch.Tensor]


class Eagle3Head(nn.Module):
    """A head with its weights, in its target's number format and on its device."""

    def __init__(
        self,
        config: Eagle3Config,
        weights: Mapping[str, torch.Tensor],
        target_ids: NDArray[np.int64],
        target: LoadedModel,
    ) -> None:
        """`weights` are named as `weights_of` names them; `target_ids` is (draft vocabulary,)."""
        super().__init__()
        joined = weights["fc.weight"].shape[1]
        states = sum(name.startswith("fc_norm.") for name in weights)
        self.config, self.vocabulary = config, config.vocabulary
        self._embeddings: torch.Tensor
        with torch.device("meta"):
            self.fc = nn.Linear(joined, config.width, bias=False)
            self.input_norm = LlamaRMSNorm(joined, config.eps) if config.norm_before_fc else None
            self.fc_norm = nn.ModuleList(
                LlamaRMSNorm(joined // states, config.eps)
                for _ in range(states if config.fc_norm else 0)
            )
            self.layers = nn.ModuleList(
                _Layer(config, weights, index) for index in range(config.layers)
            )
            self.norm = LlamaRMSNorm(config.width, config.eps)
            self.lm_head = nn.Linear(config.width, weights["lm_head.weight"].shape[0], bias=False)
        self._load(weights, target)
        self._rotary = _rotary(config).to(target.device)
        ids = torch.from_numpy(target_ids).to(target.device)
        whole = torch.arange(config.vocabulary, device=target.device)
        self.drafted = None if torch.equal(ids, whole) else ids

    @classmethod
    def of(cls, files: Eagle3Files, target: LoadedModel) -> Eagle3Head:
        """The head of a folder."""
        return cls(files.config, weights_of(files), files.target_ids, target)

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
        fused: torch.Tensor = self.fc(regular(states))
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

    def read_tokens(self, step: int, tokens: torch.Tensor) -> torch.Tensor:
        """The tokens that a draft step reads, 0 the first, where `tokens` were drafted."""
        return tokens

    def draft_logits(self, state: torch.Tensor) -> torch.Tensor:
        """Of the tokens that the head can draft (..., draft vocabulary), from y."""
        logits: torch.Tensor = self.lm_head(self.norm(state))
        return logits

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """Of all tokens of the target (..., vocabulary), from y; -inf for those that the head
        cannot draft.
        """
        logits = self.draft_logits(state)
        if self.drafted is None:
            return logits
        whole = logits.new_full((*logits.shape[:-1], self.vocabulary), -torch.inf)
        return whole.index_copy_(-1, self.drafted, logits)

    def _load(self, weights: Mapping[str, torch.Tensor], target: LoadedModel) -> None:
        dtype = target.model.dtype
        self.load_state_dict(
            {name: weights[name].to(target.device, dtype) for name in self.state_dict()},
            assign=True,
        )
        own = weights.get("embed_tokens.weight")
        embeddings = (
            weight_of(target, target.model.get_input_embeddings())
            if own is None
            else own.to(target.device, dtype)
        )
        self.register_buffer("_embeddings", embeddings, persistent=False)
        self.requires_grad_(False).eval()


def weights_of(files: Eagle3Files) -> dict[str, torch.Tensor]:
    """The tensors of a head on the CPU; those of its first layer begin with `layers.0.` whatever
    the packaging. Raises RequestError for weights that are not finite.
    """
    from safetensors.torch import load_file

    first, weights = files.layer_prefix(0), {}
    for path in files.checkpoint.weight_files:
        for name, tensor in load_file(path).items():
            if not bool(torch.isfinite(tensor).all()):
                raise RequestError(
                    f"{name} of {files.checkpoint.folder} holds NaN or infinite numbers; save the "
                    "head again from a checkpoint before its training diverged"
                )
            inner = name.removeprefix(first)
            weights[f"layers.0.{inner}" if name.startswith(first) else name] = tensor
    return weights


class _Layer(nn.Module):
    """A decoder layer; the first one reads the token's embedding beside the state."""

    def __init__(
        self, config: Eagle3Config, weights: Mapping[str, torch.Tensor], index: int
    ) -> None:
        super().__init__()
        self._index = index
        self._before_residual = config.norm_before_residual
        self.self_attn = _Projections(config, weights, index)
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

    def __init__(
        self, config: Eagle3Config, weights: Mapping[str, torch.Tensor], index: int
    ) -> None:
        super().__init__()
        prefix = f"layers.{index}.self_attn."
        reads = config.width if index else 2 * config.width
        self._size = size = config.head_dim
        self._rotated, self._interleaved = config.rotated, config.interleaved

        def linear(name: str, inputs: int, outputs: int) -> nn.Linear:
            return nn.Linear(inputs, outputs, bias=f"{prefix}{name}.bias" in weights)

        self.q_proj = linear("q_proj", reads, config.heads * size)
        self.k_proj = linear("k_proj", reads, config.kv_heads * size)
        self.v_proj = linear("v_proj", reads, config.kv_heads * size)
        self.o_proj = linear("o_proj", config.heads * size, config.width)
        normed = f"{prefix}q_norm.weight" in weights
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
        turned = self._turned(queries.transpose(1, 2), keys.transpose(1, 2), rotation)
        return turned[0], turned[1], values.transpose(1, 2)

    def _turned(
        self, queries: torch.Tensor, keys: torch.Tensor, rotation: _Rotation
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and keys with their first numbers rotated.

        Neighbours that are rotated as pairs are laid out as halves first, and stay so: scores are
        sums over all numbers, in any order.
        """
        turned, passed = [], []
        for vectors in (queries, keys):
            front = vectors[..., : self._rotated]
            if self._interleaved:
                front = torch.cat([front[..., 0::2], front[..., 1::2]], -1)
            turned.append(front)
            passed.append(vectors[..., self._rotated :])
        rotated = apply_rotary_pos_emb(turned[0], turned[1], *rotation)
        whole = [torch.cat(parts, -1) for parts in zip(rotated, passed, strict=True)]
        return whole[0], whole[1]


def _rotary(config: Eagle3Config) -> LlamaRotaryEmbedding:
    named: dict[str, Any] = {"rope_theta": config.theta or EAGLE_THETA, **config.rope}
    return LlamaRotaryEmbedding(
        LlamaConfig(
            hidden_size=config.heads * config.rotated,
            num_attention_heads=config.heads,
            head_dim=config.rotated,
            max_position_embeddings=config.context or 2048,
            rope_parameters=named,
        )
    )
