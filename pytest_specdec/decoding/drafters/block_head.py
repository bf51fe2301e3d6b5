"""The network of a block drafter (DFlash, DSpark, Domino), as its definition has it.

A round begins with a text whose newest token x_n was emitted and not yet read by the target: the
target's states are known at the positions 0 to n - 1. The drafter reads

    the context  g_t = hidden_norm(fc(the joined states at t)), t = 0 .. n - 1
    the block    b_0 = the embedding of x_n, and b_r = that of the mask token, r = 1 .. R - 1

In each layer the block's rows are queries at the positions n + r. Keys and values are made by the
same two matrices from the context, at the positions t, and from the rows. A row reads all of the
context (or a window of it) and all rows of its block: attention is bidirectional there, save in
layers that are causal, where a row reads those up to its own. The context itself is not
transformed by the layers, so it has no state of its own and no row of another block is ever read.

    y_r = the row after the last layer and `norm`
    q_i = softmax(lm_head(y_(first + i)) + a correction), of the token x_(n+1+i), i = 0 .. k - 1

`first` is 1, the first mask, or 0 where the anchor's row drafts, too. The number of rows R is k + 1
or k. As every row reads every other one, it decides every q_i: k is no prefix of a larger k.

Corrections are in `block_corrections`: they read the tokens before a draft, in DFlash nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    rotate_half,
)

from ...checkpoints.block_config import BlockConfig
from ...common.errors import RequestError
from ..loading import LoadedModel
from ..strides import regular
from .block_corrections import Correction, correction_of

if TYPE_CHECKING:
    from ...checkpoints.block_checks import BlockFiles

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Called with the number of a layer and its queries (rows, heads, columns, size), keys and values
(rows, key heads, columns, size) of blocks; returns what the queries read, shaped as they are.
"""
_Rotation = tuple[torch.Tensor, torch.Tensor]


class BlockHead(nn.Module):
    """A block drafter with its weights, in its target's number format and on its device."""

    def __init__(self, files: BlockFiles, target: LoadedModel) -> None:
        super().__init__()
        config, weights = files.config, block_weights(files)
        self.config, self.vocabulary = config, config.vocabulary
        joined = weights["fc.weight"].shape[1]
        with torch.device("meta"):
            self.fc = nn.Linear(joined, config.width, bias=False)
            self.hidden_norm = LlamaRMSNorm(config.width, config.eps)
            self.layers = nn.ModuleList(
                _BlockLayer(config, index) for index in range(config.layers)
            )
            self.norm = LlamaRMSNorm(config.width, config.eps)
            self.embed_tokens = (
                nn.Embedding(config.vocabulary, config.width) if files.own_embeddings else None
            )
            self.lm_head = (
                nn.Linear(config.width, len(files.target_ids), bias=False)
                if files.own_output
                else None
            )
            self.correction: Correction = correction_of(config, len(files.target_ids))
        dtype = target.model.dtype
        self.load_state_dict(
            {name: weights[name].to(target.device, dtype) for name in self.state_dict()},
            assign=True,
        )
        self.requires_grad_(False).eval()
        self._rotary = _rotary(config).to(target.device)
        # In a list, so that the target's own layers are no parts of this module.
        self._shared = [target.model.get_input_embeddings(), target.model.get_output_embeddings()]
        ids = torch.from_numpy(files.target_ids).to(target.device)
        whole = torch.arange(config.vocabulary, device=target.device)
        self.drafted = None if torch.equal(ids, whole) else ids

    def rotate_by(self, theta: float) -> None:
        """Rotate positions by another base than config.json's."""
        config = dataclasses.replace(self.config, theta=theta)
        self._rotary = _rotary(config).to(self.fc.weight.device)

    def context(self, states: torch.Tensor) -> torch.Tensor:
        """g (rows, columns, width) of the target's joined states, those wide each."""
        context: torch.Tensor = self.hidden_norm(self.fc(regular(states)))
        return context

    def context_keys(
        self, layer: int, context: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's keys and values (rows, key heads, columns, size) of g at its `positions`
        (rows, columns).
        """
        rotation = self._rotary(context, position_ids=positions)
        projections: _BlockProjections = self.layers[layer].self_attn  # type: ignore[assignment]
        return projections.keys(context, rotation)

    def states(
        self, anchors: torch.Tensor, positions: torch.Tensor, rows: int, attend: Attend
    ) -> torch.Tensor:
        """y of one block for each anchor: (texts, anchors, rows, width).

        `anchors` are their tokens and `positions` theirs, (texts, anchors). `attend` is given the
        columns of all blocks of a text one after another.
        """
        tokens = torch.full((*anchors.shape, rows), self.config.mask_token, device=anchors.device)
        tokens[..., 0] = anchors
        places = positions[..., None] + torch.arange(rows, device=anchors.device)
        state = self.embedded(tokens.flatten(1))
        rotation = self._rotary(state, position_ids=places.flatten(1))
        for layer in self.layers:
            state = layer(state, rotation, attend)
        normed: torch.Tensor = self.norm(state)
        return normed.view(*anchors.shape, rows, -1)

    def embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        """Embeddings (..., width) of tokens, its own or the target's."""
        embed = self._shared[0] if self.embed_tokens is None else self.embed_tokens
        embedded: torch.Tensor = embed(tokens)
        return embedded

    def draft_logits(
        self, step: int, state: torch.Tensor, tokens: torch.Tensor, carried: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of draft `step` over the tokens that can be drafted (..., drafted), and what the
        correction of the next draft is given.

        `state` (..., width) is y of the draft's own row and `tokens` (...) the token before the
        draft; `carried` is None for the first draft.
        """
        output = self._shared[1] if self.lm_head is None else self.lm_head
        assert output is not None
        logits: torch.Tensor = output(regular(state))
        logits = logits[..., : self.vocabulary]
        bias, carried = self.correction(step, state, tokens, self.embedded, carried)
        return (logits if bias is None else logits + bias), carried

    def whole_logits(self, logits: torch.Tensor) -> torch.Tensor:
        """Of all tokens of the target (..., vocabulary), from those of `draft_logits`; -inf for
        those that cannot be drafted.
        """
        if self.drafted is None:
            return logits
        whole = logits.new_full((*logits.shape[:-1], self.vocabulary), -torch.inf)
        return whole.index_copy_(-1, self.drafted, logits)


def block_weights(files: BlockFiles) -> dict[str, torch.Tensor]:
    """The tensors of a drafter on the CPU, named as the module's. Raises RequestError for weights
    that are not finite.
    """
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for path in files.checkpoint.weight_files:
        for name, tensor in load_file(path).items():
            if not bool(torch.isfinite(tensor).all()):
                raise RequestError(
                    f"{name} of {files.checkpoint.folder} holds NaN or infinite numbers; save the "
                    "drafter again from a checkpoint before its training diverged"
                )
            corrects = name.startswith(("markov_head.", "prefix_gru.", "embed_proj."))
            weights[f"correction.{name}" if corrects else name] = tensor
    return weights


class _BlockLayer(nn.Module):
    """A decoder layer of the block's rows."""

    def __init__(self, config: BlockConfig, index: int) -> None:
        super().__init__()
        self._index = index
        self.self_attn = _BlockProjections(config)
        self.input_layernorm = LlamaRMSNorm(config.width, config.eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.width, config.eps)
        self.mlp = LlamaMLP(
            LlamaConfig(
                hidden_size=config.width,
                intermediate_size=config.mlp_width,
                num_attention_heads=1,
            )
        )

    def forward(self, state: torch.Tensor, rotation: _Rotation, attend: Attend) -> torch.Tensor:
        inputs = self.input_layernorm(state)
        queries = self.self_attn.queries(inputs, rotation)
        keys, values = self.self_attn.keys(inputs, rotation)
        read = attend(self._index, queries, keys, values).transpose(1, 2).flatten(2)
        state = state + self.self_attn.o_proj(read)
        fed: torch.Tensor = state + self.mlp(self.post_attention_layernorm(state))
        return fed


class _BlockProjections(nn.Module):
    """Queries, keys and values of a layer, (rows, heads, columns, size), normed and rotated."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self._size = size = config.head_dim

        def linear(inputs: int, outputs: int) -> nn.Linear:
            return nn.Linear(inputs, outputs, bias=config.attention_bias)

        self.q_proj = linear(config.width, config.heads * size)
        self.k_proj = linear(config.width, config.kv_heads * size)
        self.v_proj = linear(config.width, config.kv_heads * size)
        self.o_proj = linear(config.heads * size, config.width)
        self.q_norm = LlamaRMSNorm(size, config.eps)
        self.k_norm = LlamaRMSNorm(size, config.eps)

    def queries(self, inputs: torch.Tensor, rotation: _Rotation) -> torch.Tensor:
        queries = self.q_norm(self.q_proj(inputs).unflatten(-1, (-1, self._size)))
        return _turned(queries.transpose(1, 2), rotation)

    def keys(self, inputs: torch.Tensor, rotation: _Rotation) -> tuple[torch.Tensor, torch.Tensor]:
        keys = self.k_norm(self.k_proj(inputs).unflatten(-1, (-1, self._size)))
        values = self.v_proj(inputs).unflatten(-1, (-1, self._size))
        return _turned(keys.transpose(1, 2), rotation), values.transpose(1, 2)


def _turned(vectors: torch.Tensor, rotation: _Rotation) -> torch.Tensor:
    cosine, sine = (part[:, None] for part in rotation)
    turned: torch.Tensor = vectors * cosine + rotate_half(vectors) * sine
    return turned


def _rotary(config: BlockConfig) -> LlamaRotaryEmbedding:
    return LlamaRotaryEmbedding(
        LlamaConfig(
            hidden_size=config.heads * config.head_dim,
            num_attention_heads=config.heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.context or 2048,
            rope_parameters={"rope_theta": config.theta, **config.rope},
        )
    )
