"""EAGLE-3 by its definition: one round start and one step at a time, without caches and masks.

It imports nothing of this package, reads the files itself and computes in float64, every key anew
for every step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


class Reference:
    """The head in `folder` on the hidden states of `target`, a transformers model in float64 with
    the decoder `layers`, those of a Llama if None.
    """

    def __init__(self, folder: Path, target: Any, ids: tuple[int, ...], layers: Any = None) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.layer = self.config.get("transformer_layer_config", self.config)
        self.weights = {
            name.replace("midlayer.", "layers.0."): (
                tensor.double() if tensor.is_floating_point() else tensor
            )
            for name, tensor in load_file(folder / "model.safetensors").items()
        }
        self.target, self.ids = target, ids
        self.blocks = target.model.layers if layers is None else layers
        self.vocabulary = self.layer["vocab_size"]
        self.theta = (self.layer.get("rope_parameters") or self.layer)["rope_theta"]
        nested = self.layer.get("rope_parameters") or {}
        self.partial = nested.get("partial_rotary_factor", self.layer.get("partial_rotary_factor"))
        self.neighbours = self.layer.get("rope_interleave", False)
        embeddings = target.get_input_embeddings().weight
        self.embeddings = self.weights.get("embed_tokens.weight", embeddings).double()

    def states(self, tokens: list[int]) -> torch.Tensor:
        """(tokens, states x width): the target's, block by block, without transformers' own
        collection of hidden states.
        """
        outputs: dict[int, torch.Tensor] = {}
        hooks = []
        for number in self.ids:
            block = self.blocks[max(number - 1, 0)]

            def keep(module: Any, inputs: Any, output: Any, number: int = number) -> None:
                output = output[0] if isinstance(output, tuple) else output
                outputs[number] = inputs[0] if number == 0 else output

            hooks.append(block.register_forward_hook(keep))
        with torch.no_grad():
            self.target(torch.tensor([tokens]))
        for hook in hooks:
            hook.remove()
        return torch.cat([outputs[number][0] for number in self.ids], -1).double()

    def logits(self, states: torch.Tensor, tokens: list[int], anchor: int) -> list[torch.Tensor]:
        """Logits (vocabulary,) of each draft of the round that starts after `anchor`, as long as
        `tokens` go on: those of the token at anchor + 2 first. -inf for what the head cannot draft.
        """
        steps = self.steps(states, tokens, anchor)
        return [next(steps), *(steps.send(token) for token in tokens[anchor + 2 :])]

    def steps(
        self, states: torch.Tensor, tokens: list[int], anchor: int
    ) -> Generator[torch.Tensor, int, None]:
        """The same one by one: each of them is answered with the token that was drafted. Of
        `tokens` those after anchor + 1 are not read.
        """
        carried, chain, token = self.fused(states[anchor]), [], tokens[anchor + 1]
        targets = torch.arange(len(self.weights["lm_head.weight"]))
        if "d2t" in self.weights:
            targets = targets + self.weights["d2t"]
        while True:
            chain.append((token, carried, anchor + len(chain)))
            state = self.decoded(states, tokens, anchor, chain)
            normed = self.norm("norm", state)
            carried = normed if self.config.get("norm_output") else state
            logits = torch.full((self.vocabulary,), -torch.inf, dtype=torch.float64)
            logits[targets] = self.linear("lm_head", normed)
            token = yield logits

    def fused(self, states: torch.Tensor) -> torch.Tensor:
        if self.config.get("norm_before_fc"):
            states = self.norm("input_norm", states)
        if self.config.get("fc_norm"):
            parts = states.chunk(len(self.ids), -1)
            states = torch.cat(
                [self.norm(f"fc_norm.{i}", part) for i, part in enumerate(parts)], -1
            )
        return self.linear("fc", states)

    def decoded(
        self,
        states: torch.Tensor,
        tokens: list[int],
        anchor: int,
        chain: list[tuple[int, torch.Tensor, int]],
    ) -> torch.Tensor:
        """y of the chain's last step, which sees the columns before its anchor and the chain.

        Each entry of the chain is (token, c, position).
        """
        later, carried, positions = zip(*chain, strict=True)
        embedded = self.embeddings[[*tokens[1 : anchor + 1], *later]]
        carry = torch.cat([self.fused(states[:anchor]), torch.stack(carried)])
        at = torch.tensor([*range(anchor), *positions], dtype=torch.float64)
        normed = self.norm("layers.0.hidden_norm", carry)
        inputs = torch.cat([self.norm("layers.0.input_layernorm", embedded), normed], -1)
        residuals = normed if self.config.get("norm_before_residual") else carry
        layers = self.layer["num_hidden_layers"]
        for layer in range(layers - 1):
            # A deeper layer reads of each column what that column made of those before it.
            residuals = torch.stack(
                [
                    self.output(layer, inputs[: column + 1], residuals[column], at[: column + 1])
                    for column in range(len(at))
                ]
            )
            inputs = self.norm(f"layers.{layer + 1}.input_layernorm", residuals)
        return self.output(layers - 1, inputs, residuals[-1], at)

    def output(
        self, layer: int, inputs: torch.Tensor, residual: torch.Tensor, at: torch.Tensor
    ) -> torch.Tensor:
        """Of the last column, which sees all of `inputs` (columns, width)."""
        heads, kv_heads = self.layer["num_attention_heads"], self.layer["num_key_value_heads"]
        query = self.projected(layer, "q", inputs[-1:], heads, at[-1:])[0]
        keys = self.projected(layer, "k", inputs, kv_heads, at)
        values = self.projected(layer, "v", inputs, kv_heads, None)
        read = []
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = keys[:, group] @ query[head] / math.sqrt(query.shape[-1])
            read.append(scores.softmax(0) @ values[:, group])
        state = residual + self.linear(f"layers.{layer}.self_attn.o_proj", torch.cat(read))
        fed = self.norm(f"layers.{layer}.post_attention_layernorm", state)
        gate = self.linear(f"layers.{layer}.mlp.gate_proj", fed)
        up = self.linear(f"layers.{layer}.mlp.up_proj", fed)
        return state + self.linear(f"layers.{layer}.mlp.down_proj", gate * gate.sigmoid() * up)

    def projected(
        self, layer: int, name: str, inputs: torch.Tensor, heads: int, at: torch.Tensor | None
    ) -> torch.Tensor:
        """(columns, heads, size), turned by the angles of the positions `at`."""
        prefix = f"layers.{layer}.self_attn.{name}"
        vectors = self.linear(f"{prefix}_proj", inputs).unflatten(-1, (heads, -1))
        if f"{prefix}_norm.weight" in self.weights:
            vectors = self.norm(f"{prefix}_norm", vectors)
        if at is None:
            return vectors
        half = int(vectors.shape[-1] * (self.partial or 1)) // 2
        turned, pairs = vectors.clone(), torch.arange(half)
        one, two = (2 * pairs, 2 * pairs + 1) if self.neighbours else (pairs, pairs + half)
        angles = (at[:, None] * self.theta ** (-pairs.double() / half))[:, None]
        low, high = vectors[..., one], vectors[..., two]
        turned[..., one] = low * angles.cos() - high * angles.sin()
        turned[..., two] = high * angles.cos() + low * angles.sin()
        return turned

    def linear(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        product = inputs @ self.weights[f"{name}.weight"].T
        bias = self.weights.get(f"{name}.bias")
        return product if bias is None else product + bias

    def norm(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        scale = (inputs.pow(2).mean(-1, keepdim=True) + self.layer["rms_norm_eps"]).rsqrt()
        return self.weights[f"{name}.weight"] * inputs * scale
