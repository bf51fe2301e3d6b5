"""Tiny random checkpoints with MTP layers, one per architecture, in the layout of its published
checkpoints.

Each is written from a donor: a model with as many more decoder layers as there are MTP layers.
transformers saves the donor in the published layout (one tensor per expert, say); its last layers
then become the MTP layers' blocks by renaming alone, so no code of the loader is used to write what
it must read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from helpers.support import edit_config

VOCABULARY = 12
WIDTH = 16
_PLAIN: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.5,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_EXPERTS: dict[str, Any] = {"moe_intermediate_size": WIDTH, "num_experts_per_tok": 2}
_LATENT: dict[str, Any] = {
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "qk_nope_head_dim": 8,
}
_LINEAR: dict[str, Any] = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
}
_NUMBERED = {
    "eh_proj": "eh_proj",
    "enorm": "enorm",
    "hnorm": "hnorm",
    "post_norm": "shared_head.norm",
}
_OUTSIDE = {
    "eh_proj": "fc",
    "enorm": "pre_fc_norm_embedding",
    "hnorm": "pre_fc_norm_hidden",
    "post_norm": "norm",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What distinguishes one architecture's checkpoints with MTP layers."""

    model_type: str
    settings: Mapping[str, Any]
    announced: Mapping[str, Any]
    """Fields of config.json that name the MTP layers."""
    mtp_layers: int = 1
    layer_types: tuple[str, ...] | None = None
    """Of the model's layers and then the MTP layers; None where the configuration has no such
    field.
    """
    mlp_layer_types: tuple[str, ...] | None = None
    prefix: str = "model.layers.{number}"
    """Of MTP layer {index}; {number} counts on from the model's own layers."""
    extras: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(_NUMBERED))
    """Names of the tensors around the block."""
    extras_prefix: str | None = None
    """Where they stand, if not in the layer."""
    layers: int = 2


ARCHITECTURES = {
    architecture.model_type: architecture
    for architecture in (
        Architecture(
            "deepseek_v3",
            {
                **_EXPERTS,
                **_LATENT,
                "q_lora_rank": 8,
                "n_routed_experts": 4,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 1,
            },
            {"num_nextn_predict_layers": 2},
            mtp_layers=2,
        ),
        Architecture(
            "glm4_moe",
            {
                **_EXPERTS,
                "head_dim": 8,
                "n_routed_experts": 4,
                "n_shared_experts": 1,
                "first_k_dense_replace": 1,
            },
            {"num_nextn_predict_layers": 2},
            mtp_layers=2,
        ),
        # Plain decoders: no MTP field of their own, config.json names num_mtp_layers.
        Architecture("llama", {}, {"num_mtp_layers": 3}, mtp_layers=3),
        Architecture(
            "qwen3",
            {"head_dim": 8},
            {"num_mtp_layers": 2},
            mtp_layers=2,
            layer_types=("full_attention",) * 4,
        ),
        Architecture(
            "mellum",
            {**_EXPERTS, "head_dim": 8, "num_experts": 4, "sliding_window": 6},
            {"num_nextn_predict_layers": 1},
            layer_types=("full_attention", "sliding_attention", "sliding_attention"),
            mlp_layer_types=("sparse",) * 3,
            prefix="mtp.layers.{index}",
            extras=_OUTSIDE,
            extras_prefix="mtp",
        ),
        # The published configuration does not count its one MTP layer: config.json names
        # num_mtp_layers.
        Architecture(
            "qwen3_next",
            {
                **_EXPERTS,
                **_LINEAR,
                "head_dim": 8,
                "num_experts": 4,
                "shared_expert_intermediate_size": WIDTH,
            },
            {"num_mtp_layers": 1},
            layer_types=("linear_attention", "full_attention", "full_attention"),
            prefix="mtp.layers.{index}",
            extras=_OUTSIDE,
            extras_prefix="mtp",
        ),
        Architecture(
            "qwen3_5_text",
            {**_LINEAR, "head_dim": 8},
            {"mtp_num_hidden_layers": 1},
            layer_types=("linear_attention", "full_attention", "full_attention"),
            prefix="mtp.layers.{index}",
            extras=_OUTSIDE,
            extras_prefix="mtp",
        ),
        # Its layers attend in two ways: config.json names the MTP layer's.
        Architecture(
            "exaone_moe",
            {**_EXPERTS, "num_experts": 4, "num_shared_experts": 1, "sliding_window": 6},
            {
                "num_nextn_predict_layers": 1,
                "mtp_layer_types": ["full_attention"],
                "mtp_mlp_layer_types": ["dense"],
            },
            layer_types=("sliding_attention", "full_attention", "full_attention"),
            mlp_layer_types=("dense", "sparse", "dense"),
            prefix="mtp.layers.{index}",
            extras=_OUTSIDE,
            extras_prefix="mtp",
        ),
        Architecture(
            "mimo_v2_flash",
            {
                **_EXPERTS,
                "num_attention_heads": 4,
                "head_dim": 8,
                "v_head_dim": 8,
                "n_routed_experts": 4,
                "sliding_window": 6,
            },
            {
                "num_mtp_layers": 2,
                "mtp_layer_types": ["sliding_attention"] * 2,
                "mtp_mlp_layer_types": ["dense"] * 2,
            },
            mtp_layers=2,
            layer_types=(
                "full_attention",
                "sliding_attention",
                "sliding_attention",
                "sliding_attention",
            ),
            mlp_layer_types=("dense", "sparse", "dense", "dense"),
            prefix="model.mtp.layers.{index}",
            extras=_NUMBERED | {"post_norm": "post_norm"},
        ),
        Architecture(
            "bailing_hybrid",
            {
                **_EXPERTS,
                **_LATENT,
                "head_dim": 8,
                "num_local_experts": 4,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 1,
            },
            {"num_nextn_predict_layers": 1},
            layer_types=("linear_attention", "full_attention", "full_attention"),
            mlp_layer_types=("dense", "sparse", "sparse"),
        ),
    )
}


def publish(architecture: Architecture, folder: Path, *, seed: int) -> dict[str, torch.Tensor]:
    """Save a random checkpoint to `folder`; returns its MTP layers as transformers' `MtpModel`
    should name them.
    """
    torch.manual_seed(seed)
    donor = _donor(architecture)
    donor.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    extras = {index: _extras() for index in range(architecture.mtp_layers)}
    published = _rename(architecture, weights) | _published_extras(architecture, extras)
    if (
        architecture.extras_prefix is None
    ):  # such checkpoints repeat embedding and head in each MTP layer
        for index in range(architecture.mtp_layers):
            for name in ("embed_tokens.weight", "shared_head.head.weight"):
                published[f"{_prefix(architecture, index)}.{name}"] = torch.zeros(VOCABULARY, WIDTH)
    save_file(published, folder / "model.safetensors", metadata={"format": "pt"})
    _publish_config(architecture, folder)
    return _expected(architecture, donor, extras)


def _donor(architecture: Architecture) -> Any:
    settings = {
        **_PLAIN,
        **architecture.settings,
        "num_hidden_layers": architecture.layers + architecture.mtp_layers,
    }
    for field in ("layer_types", "mlp_layer_types"):
        if (types := getattr(architecture, field)) is not None:
            settings[field] = list(types)
    donor = AutoModelForCausalLM.from_config(CONFIG_MAPPING[architecture.model_type](**settings))
    for parameter in donor.parameters():
        if parameter.ndim == 1:  # norms start at 1 or 0: make each its own
            parameter.data += 0.2 * torch.randn(parameter.shape)
    return donor


def _extras() -> dict[str, torch.Tensor]:
    norms = {name: 1 + 0.2 * torch.randn(WIDTH) for name in ("enorm", "hnorm", "post_norm")}
    return {**norms, "eh_proj": 0.4 * torch.randn(WIDTH, 2 * WIDTH)}


def _prefix(architecture: Architecture, index: int) -> str:
    return architecture.prefix.format(index=index, number=architecture.layers + index)


def _rename(
    architecture: Architecture, weights: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    moved = {
        f"model.layers.{architecture.layers + index}.": index
        for index in range(architecture.mtp_layers)
    }
    published = {}
    for name, tensor in weights.items():
        old = next((old for old in moved if name.startswith(old)), None)
        published[
            name if old is None else f"{_prefix(architecture, moved[old])}.{name.removeprefix(old)}"
        ] = tensor
    return published


def _published_extras(
    architecture: Architecture, extras: dict[int, dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    return {
        f"{architecture.extras_prefix or _prefix(architecture, index)}.{architecture.extras[name]}.weight": tensor
        for index, tensors in extras.items()
        for name, tensor in tensors.items()
    }


def _publish_config(architecture: Architecture, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    shorter = {
        name: config[name][: architecture.layers]
        for name in ("layer_types", "mlp_layer_types")
        if config.get(name)
    }
    nameless = {
        "mtp_layer_types": None,
        "mtp_mlp_layer_types": None,
        "num_nextn_predict_layers": None,
    }
    edit_config(
        folder,
        **(
            nameless
            | {"num_hidden_layers": architecture.layers}
            | shorter
            | dict(architecture.announced)
        ),
    )


def _expected(
    architecture: Architecture, donor: Any, extras: dict[int, dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    expected = {}
    for index, tensors in extras.items():
        block = donor.get_decoder().layers[architecture.layers + index].state_dict()
        expected |= {f"layers.{index}.mtp_block.{name}": tensor for name, tensor in block.items()}
        expected |= {f"layers.{index}.{name}.weight": tensor for name, tensor in tensors.items()}
    return expected
