"""Defects of EAGLE-3 heads, and of targets for them, as edits of ours: a conversion or an export
that went wrong, seen in the files.
"""

from __future__ import annotations

import torch
from helpers.support import EMBEDDED
from museum.edits import Config, Weights
from safetensors.torch import load_file

IDS = "eagle_aux_hidden_state_layer_ids"


def no_ids(weights: Weights, config: Config) -> None:
    """config.json does not name the target's layers."""
    config.pop(IDS, None)
    config.get("eagle_config", {}).pop(IDS, None)


def ids_of_inputs(weights: Weights, config: Config) -> None:
    """`eagle_config`, whose ids are outputs of layers, names their inputs."""
    config["eagle_config"][IDS] = [number + 1 for number in config["eagle_config"][IDS]]


def says_norm_output(weights: Weights, config: Config) -> None:
    config["norm_output"] = True


def zero_map(weights: Weights, config: Config) -> None:
    """Offsets of 0: the head's tokens are taken for the first ones of the target."""
    drafted = len(weights["d2t"])
    weights["d2t"] = torch.zeros_like(weights["d2t"])
    weights["t2d"] = torch.arange(len(weights["t2d"])) < drafted


def interleaved(weights: Weights, config: Config) -> None:
    """The same head laid out for rotary pairs of neighbours, which config.json says."""
    size = config["head_dim"]
    for name, tensor in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            pairs = tensor.view(-1, 2, size // 2, tensor.shape[1]).transpose(1, 2)
            weights[name] = pairs.reshape(tensor.shape).contiguous()
    config["rope_interleave"] = True


def own_embeddings(weights: Weights, config: Config) -> None:
    """The same head with a copy of the target's embeddings."""
    theirs = load_file(EMBEDDED / "deep-target" / "model.safetensors")
    weights["embed_tokens.weight"] = theirs["model.embed_tokens.weight"]


def rotated(weights: Weights, config: Config) -> None:
    """The same target with its residual stream turned by an orthogonal matrix, as QuaRot does before
    it quantises.

    Scales of norms move into the matrices behind them; logits stay what they were, save for
    rounding.
    """
    embeddings = weights["model.embed_tokens.weight"].double()
    width = embeddings.shape[1]
    noise = torch.randn(width, width, generator=torch.Generator().manual_seed(0)).double()
    turn = torch.linalg.qr(noise).Q
    weights["lm_head.weight"] = _reading(embeddings, weights, "model.norm.weight", turn)
    weights["model.embed_tokens.weight"] = (embeddings @ turn).float()
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm, names in _READERS.items():
            for name in names:
                weights[prefix + name] = _reading(
                    weights[prefix + name].double(), weights, prefix + norm, turn
                )
        for name in _WRITERS:
            weights[prefix + name] = (turn.T @ weights[prefix + name].double()).float()
    for name in [name for name in weights if name.endswith("norm.weight")]:
        weights[name] = torch.ones_like(weights[name])


_READERS = {
    "input_layernorm.weight": [f"self_attn.{name}_proj.weight" for name in "qkv"],
    "post_attention_layernorm.weight": [f"mlp.{name}_proj.weight" for name in ("gate", "up")],
}
"""Matrices that read the residual stream, by the norm before them."""
_WRITERS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def _reading(matrix: torch.Tensor, weights: Weights, norm: str, turn: torch.Tensor) -> torch.Tensor:
    return ((matrix * weights[norm].double()) @ turn).float()
