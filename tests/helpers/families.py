"""Tiny random targets of many model families, in float64, with what a test needs to know of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, GenerationConfig

from helpers.support import letter_tokenizer
from pytest_specdec.decoding.loading import LoadedModel, load_model

LAYERS = 4
_SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": None,
}
_EXPERTS = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
_OLD_NAMES = {"n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 128}


@dataclasses.dataclass(frozen=True)
class Family:
    """A model type and what tells it from Llama."""

    model_type: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    text: bool = False
    """Whether the sizes stand in `text_config`, as in models that also read images."""
    layers: Callable[[Any], Any] = lambda model: model.model.layers
    norm: Callable[[Any], Any] = lambda model: model.model.norm
    dtype: str = "float64"
    """A number format for padded batches. The attention of some families computes its softmax in
    float32, where float64's lowest number is -inf and what a padded position reads NaN.
    """


FAMILIES = {
    family.model_type: family
    for family in (
        Family("llama"),
        Family("qwen3"),
        Family("mistral", {"sliding_window": 6}),
        # Scaled embeddings, and capped attention and logits.
        Family("gemma2", {"sliding_window": 6, "query_pre_attn_scalar": 8}, dtype="float32"),
        Family("gemma3_text", {"sliding_window": 6, "query_pre_attn_scalar": 8}),
        Family("qwen3_moe", {**_EXPERTS, "num_experts": 4}),
        Family("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
        Family(
            "gpt_oss",
            {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6},
            dtype="float32",
        ),
        Family(
            "gpt2",
            _OLD_NAMES,
            layers=lambda model: model.transformer.h,
            norm=lambda model: model.transformer.ln_f,
        ),
        # A norm over the embeddings.
        Family(
            "bloom",
            {"n_layer": LAYERS, "n_head": 4},
            dtype="float32",
            layers=lambda model: model.transformer.h,
            norm=lambda model: model.transformer.ln_f,
        ),
        Family(
            "gemma3",
            {"sliding_window": 6, "query_pre_attn_scalar": 8},
            text=True,
            layers=lambda model: model.model.language_model.layers,
            norm=lambda model: model.model.language_model.norm,
        ),
    )
}


def make_family(family: Family, folder: Path, *, seed: int = 0) -> LoadedModel:
    """A model of the family with a letter tokenizer, saved to `folder` and loaded in float64."""
    torch.manual_seed(seed)
    sizes = {**_SIZES, **family.settings}
    config = CONFIG_MAPPING[family.model_type](**({"text_config": sizes} if family.text else sizes))
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # norms start at 1 or 0: make each its own
            parameter.data += 0.2 * torch.randn(parameter.shape)
    model.generation_config = GenerationConfig(bos_token_id=0, pad_token_id=1)
    model.save_pretrained(folder)
    letter_tokenizer().save_pretrained(folder)
    return load_family(folder, "float64")


def load_family(folder: Path, dtype: str) -> LoadedModel:
    """A model in `folder`, its experts one by one: grouped products know no float64."""
    loaded = load_model(str(folder), "cpu", dtype=dtype)
    loaded.model.set_experts_implementation("eager")
    return loaded
