"""Block drafters by their definition: one block, one row and one head at a time.

It imports nothing of this package, reads the files itself and computes in float64, without caches
and without masks: each row gathers the keys that it reads in a list.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


class BlockReference:
    """The drafter in `folder` on the hidden states of `target`, a transformers Llama or Qwen3 in
    float64; `ids` are those states, numbered as transformers' `hidden_states`.
    """

    def __init__(self, folder: Path, target: Any, ids: tuple[int, ...]) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.layer = self.config.get("transformer_layer_config", self.config)
        self.own = {**self.config, **self.config.get("dflash_config", {})}
        self.weights = {
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in load_file(folder / "model.safetensors").items()
        }
        self.target, self.ids = target, ids
        self.found: dict[tuple[int, ...], torch.Tensor] = {}
        """Blocks by the tokens before them and their rows."""
        self.windowed_from_anchor = "transformer_layer_config" in self.config
        name = self.config["architectures"][0].lower()
        self.kind = next(kind for kind in ("dspark", "domino", "dflash") if kind in name)
        packed = "transformer_layer_config" in self.config
        default = self.kind == "dspark" and ("dflash_config" not in self.config)
        self.from_anchor = self.own.get("sample_from_anchor", default)
        if not packed and self.kind != "domino":
            self.from_anchor = default
        self.shifted = self.kind == "domino" and self.own.get("shift_label", False)

    def states(self, tokens: list[int]) -> torch.Tensor:
        """(tokens, states x width) of the target's blocks, by hooks."""
        outputs: dict[int, torch.Tensor] = {}
        hooks = []
        for number in self.ids:

            def keep(module: Any, inputs: Any, output: Any, number: int = number) -> None:
                outputs[number] = output[0] if isinstance(output, tuple) else output

            hooks.append(self.target.model.layers[number - 1].register_forward_hook(keep))
        with torch.no_grad():
            self.target(torch.tensor([tokens]))
        for hook in hooks:
            hook.remove()
        return torch.cat([outputs[number][0] for number in self.ids], -1).double()

    def logits(
        self, states: torch.Tensor, tokens: list[int], newest: int, k: int, drafts: list[int]
    ) -> torch.Tensor:
        """Logits (vocabulary,) of draft `len(drafts)` of a round of k drafts that starts after the
        token at `newest`.
        """
        step = len(drafts)
        rows = k if self.from_anchor else k + 1
        first = 0 if self.from_anchor or self.shifted else 1
        key = (rows, *tokens[: newest + 1])
        if key not in self.found:
            self.found[key] = self.block(states[:newest], tokens[newest], newest, rows)
        block = self.found[key]
        state = block[first + step]
        head = self.weights.get("lm_head.weight")
        if head is None:
            head = self.target.lm_head.weight.double()
        logits = head @ state
        before = [tokens[newest], *drafts]
        if "markov_head.markov_w1.weight" in self.weights:
            logits = logits + self.markov(before, block[first : first + step + 1])
        if self.kind == "domino" and step >= self.own.get("pure_draft_prefix_len", 0):
            logits = logits + self.domino(before, state)
        whole = torch.full((self.layer["vocab_size"],), -torch.inf, dtype=torch.float64)
        targets = torch.arange(len(head))
        if "d2t" in self.weights:
            targets = targets + self.weights["d2t"]
        whole[targets] = logits
        return whole

    def markov(self, before: list[int], rows: torch.Tensor) -> torch.Tensor:
        """The bias of the draft after `before`, whose rows so far are `rows`."""
        kind = self.own.get("markov_head_type", "vanilla")
        read = self.weights["markov_head.markov_w1.weight"]
        write = self.weights["markov_head.markov_w2.weight"]
        if kind == "vanilla":
            return write @ read[before[-1]]
        if kind == "gated":
            inputs = torch.cat([rows[-1], read[before[-1]]])
            return write @ (
                self.linear("markov_head.gate_proj", inputs).sigmoid() * read[before[-1]]
            )
        held = torch.zeros(read.shape[1], dtype=torch.float64)
        for token, row in zip(before, rows, strict=True):
            joint = self.linear("markov_head.joint_proj", torch.cat([held, read[token], row]))
            gate, candidate, output = joint.split(len(held))
            held = gate.sigmoid() * held + (1 - gate.sigmoid()) * candidate.tanh()
        return write @ output.tanh()

    def domino(self, before: list[int], state: torch.Tensor) -> torch.Tensor:
        """The correction by torch's own GRU over the embeddings of `before`."""
        inner = self.weights["prefix_gru.weight_hh_l0"].shape[1]
        gru = torch.nn.GRU(self.layer["hidden_size"], inner, bias=False).double()
        gru.load_state_dict(
            {name: self.weights[f"prefix_gru.{name}"] for name in ("weight_ih_l0", "weight_hh_l0")}
        )
        with torch.no_grad():
            _, last = gru(torch.stack([self.embedded(token) for token in before]))
        inputs = self.linear("embed_proj.0", torch.cat([state, last[0]]))
        return self.linear("embed_proj.2", inputs * inputs.sigmoid())

    def embedded(self, token: int) -> torch.Tensor:
        own = self.weights.get("embed_tokens.weight")
        table = self.target.get_input_embeddings().weight if own is None else own
        return table.detach().double()[token]

    def block(self, states: torch.Tensor, anchor: int, newest: int, rows: int) -> torch.Tensor:
        """(rows, width): y of each row."""
        context = [self.norm("hidden_norm", self.linear("fc", state)) for state in states]
        mask = self.own["mask_token_id"]
        hidden = [self.embedded(token) for token in (anchor, *[mask] * (rows - 1))]
        for layer in range(self.layer["num_hidden_layers"]):
            hidden = self.decoded(layer, context, hidden, newest)
        return torch.stack([self.norm("norm", row) for row in hidden])

    def decoded(
        self, layer: int, context: list[torch.Tensor], hidden: list[torch.Tensor], newest: int
    ) -> list[torch.Tensor]:
        name = f"layers.{layer}"
        inputs = [self.norm(f"{name}.input_layernorm", row) for row in hidden]
        kinds = self.layer.get("layer_types") or ["full_attention"] * len(hidden)
        sliding = kinds[layer] == "sliding_attention"
        causal = self.own.get("is_causal")
        if causal is None:
            causal = sliding and not self.own.get("sliding_window_non_causal", False)
        found = []
        for row, own in enumerate(inputs):
            since = 0
            if sliding:
                window = self.layer["sliding_window"]
                since = newest - window if self.windowed_from_anchor else newest + row - window + 1
            read = [(at, context[at]) for at in range(max(since, 0), newest)]
            read += [
                (newest + other, inputs[other])
                for other in range(row + 1 if causal else len(inputs))
            ]
            state = hidden[row] + self.attention(name, own, newest + row, read)
            fed = self.norm(f"{name}.post_attention_layernorm", state)
            gate = self.linear(f"{name}.mlp.gate_proj", fed)
            up = self.linear(f"{name}.mlp.up_proj", fed)
            found.append(state + self.linear(f"{name}.mlp.down_proj", gate * gate.sigmoid() * up))
        return found

    def attention(
        self, name: str, own: torch.Tensor, place: int, read: list[tuple[int, torch.Tensor]]
    ) -> torch.Tensor:
        heads, kv_heads = self.layer["num_attention_heads"], self.layer["num_key_value_heads"]
        query = self.turned(name, "q", own, heads, place)
        keys = torch.stack([self.turned(name, "k", state, kv_heads, at) for at, state in read])
        values = torch.stack(
            [self.linear(f"{name}.self_attn.v_proj", state).view(kv_heads, -1) for _, state in read]
        )
        gathered = []
        for head in range(heads):
            group = head // (heads // kv_heads)
            scores = keys[:, group] @ query[head] / math.sqrt(query.shape[-1])
            gathered.append(scores.softmax(0) @ values[:, group])
        return self.linear(f"{name}.self_attn.o_proj", torch.cat(gathered))

    def turned(
        self, name: str, which: str, state: torch.Tensor, heads: int, at: int
    ) -> torch.Tensor:
        """(heads, size): normed, and turned by the angles of the position."""
        vectors = self.linear(f"{name}.self_attn.{which}_proj", state).view(heads, -1)
        vectors = self.norm(f"{name}.self_attn.{which}_norm", vectors)
        half = vectors.shape[-1] // 2
        angles = at * self.layer["rope_theta"] ** (-torch.arange(half).double() / half)
        low, high = vectors[:, :half], vectors[:, half:]
        return torch.cat(
            [
                low * angles.cos() - high * angles.sin(),
                high * angles.cos() + low * angles.sin(),
            ],
            -1,
        )

    def linear(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        product = self.weights[f"{name}.weight"] @ inputs
        bias = self.weights.get(f"{name}.bias")
        return product if bias is None else product + bias

    def norm(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        scale = (inputs.pow(2).mean(-1, keepdim=True) + self.layer["rms_norm_eps"]).rsqrt()
        return self.weights[f"{name}.weight"] * inputs * scale
