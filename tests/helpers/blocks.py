"""Tiny random block drafters in the layouts of published ones, for the targets of `helpers.eagle3`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pytest_specdec.checkpoints.block_checks import block_shapes
from pytest_specdec.checkpoints.block_config import read_block_config

DRAFTED = 20
"""Tokens that a drafter with a vocabulary of its own drafts."""
MASK = 31
KINDS = {
    "DFlash, z-lab": ("dflash", "z-lab", {}),
    "DFlash, speculators": ("dflash", "speculators", {}),
    "DFlash, speculators, from the anchor": (
        "dflash",
        "speculators",
        {"sample_from_anchor": True},
    ),
    "DSpark, DeepSpec": ("dspark", "DeepSpec", {"markov_rank": 6, "markov_head_type": "vanilla"}),
    "DSpark, DeepSpec, without Markov head": ("dspark", "DeepSpec", {"markov_rank": 0}),
    "DSpark, SpecForge, gated": (
        "dspark",
        "SpecForge",
        {"markov_rank": 6, "markov_head_type": "gated", "confidence_head_alpha": 1.0},
    ),
    "DSpark, SpecForge, rnn": (
        "dspark",
        "SpecForge",
        {"markov_rank": 6, "markov_head_type": "rnn"},
    ),
    "DSpark, speculators": ("dspark", "speculators", {"markov_rank": 6}),
    "DSpark, speculators, rnn": (
        "dspark",
        "speculators",
        {"markov_rank": 6, "markov_head_type": "rnn"},
    ),
    "DSpark, speculators, from the mask": (
        "dspark",
        "speculators",
        {"markov_rank": 6, "sample_from_anchor": False},
    ),
    "Domino": ("domino", "SpecForge", {"pure_draft_prefix_len": 1}),
    "Domino, shifted": (
        "domino",
        "SpecForge",
        {"pure_draft_prefix_len": 1, "shift_label": True},
    ),
}
"""Kind, packaging and own fields of each form."""
SLIDING: dict[str, Any] = {
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 3,
}


def write_block(
    folder: Path,
    target: Path,
    kind: str = "dflash",
    packaging: str = "z-lab",
    own: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    block: int = 6,
    ids: tuple[int, ...] = (1, 4),
    layer: dict[str, Any] | None = None,
    top: dict[str, Any] | None = None,
    own_embeddings: bool = False,
) -> Path:
    """A drafter for the target in `folder`, with random weights.

    `ids` are the target's states, numbered as transformers' `hidden_states`, and are written in the
    packaging's own convention; `own` are the drafter's own fields, `layer` those of its layers.
    """
    theirs = json.loads((target / "config.json").read_text())
    fields = {
        "model_type": "qwen3",
        "hidden_size": theirs["hidden_size"],
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-6,
        "rope_theta": 300.0,
        "vocab_size": theirs["vocab_size"],
        **(layer or {}),
    }
    config = _packed(kind, packaging, fields, own or {}, ids, block) | (top or {})
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    read = read_block_config(folder / "config.json", config, kind)
    drafted = DRAFTED if packaging == "speculators" else fields["vocab_size"]
    shapes, more = block_shapes(read, drafted)
    if packaging in ("speculators", "DeepSpec"):
        shapes["lm_head.weight"] = more["lm_head.weight"]
    if own_embeddings or packaging == "DeepSpec":
        shapes["embed_tokens.weight"] = more["embed_tokens.weight"]
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator) * 0.3 + (len(shape) == 1 and "norm" in name)
        for name, shape in shapes.items()
    }
    if drafted < fields["vocab_size"]:
        chosen = torch.randperm(fields["vocab_size"], generator=generator)[:drafted].sort().values
        tensors["d2t"] = chosen - torch.arange(drafted)
        tensors["t2d"] = torch.zeros(fields["vocab_size"], dtype=torch.bool)
        tensors["t2d"][chosen] = True
    save_file(tensors, folder / "model.safetensors")
    return folder


def _packed(
    kind: str,
    packaging: str,
    layer: dict[str, Any],
    own: dict[str, Any],
    ids: tuple[int, ...],
    block: int,
) -> dict[str, Any]:
    outputs = [number - 1 for number in ids]
    if packaging == "speculators":
        return {
            "architectures": [f"{kind.capitalize()}DraftModel"],
            "speculators_model_type": kind,
            "speculators_config": {"algorithm": kind},
            "transformer_layer_config": layer,
            "draft_vocab_size": DRAFTED,
            "block_size": block,
            "mask_token_id": MASK,
            "aux_hidden_state_layer_ids": list(ids),
            **own,
        }
    named = {"mask_token_id": MASK, "target_layer_ids": outputs}
    if packaging == "DeepSpec":
        classes = {"architectures": ["Qwen3DSparkModel"]}
        return {**layer, **classes, **named, "block_size": block, **own}
    if kind == "domino":
        own = {"emb_dim": 5, "gru_hidden_dim": 7, **own}
    name = {"dflash": "DFlash", "dspark": "DSpark", "domino": "Domino"}[kind]
    return {
        **layer,
        "architectures": [f"{name}DraftModel"],
        "block_size": block,
        "dflash_config": {**named, **own},
    }


def edit_config(folder: Path, **fields: Any) -> Path:
    """Change fields of config.json; None removes one. Those inside `dflash_config` go there."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in fields.items():
        part = config
        if name in config.get("dflash_config", {}):
            part = config["dflash_config"]
        part.pop(name, None)
        if value is not None:
            part[name] = value
    path.write_text(json.dumps(config))
    return folder
