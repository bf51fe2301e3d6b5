"""Tiny random EAGLE-3 heads in the layouts of published ones, and targets for them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from helpers.support import letter_tokenizer, llama
from pytest_specdec.decoding.loading import LoadedModel, load_model

PACKAGINGS = ("SafeAILab", "SpecForge", "speculators")
DRAFTED = 20
"""Tokens that a head drafts, where it does not draft all."""


LAYERS = 8
USUAL = (2, 4, 5)
"""The states that a head without ids reads of these targets."""
PROMPTS = [[0, 2, 3, 4], [0, 5, 6], [0, 7, 8, 9, 10], [0, 11]]
FLAGS: dict[str, dict[str, bool]] = {
    "plain": {},
    "norm_before_residual": {"norm_before_residual": True},
    "norm_before_fc": {"norm_before_fc": True, "norm_before_residual": True},
    "fc_norm, norm_output": {"fc_norm": True, "norm_output": True},
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A tiny target in both number formats, and transformers' own model of it."""

    folder: Path
    single: LoadedModel
    double: LoadedModel


def make_targets(folder: Path) -> dict[str, Target]:
    """A tiny Llama and a tiny Qwen3, saved below `folder`."""
    made = {
        "llama": llama(folder / "llama", seed=3, layers=LAYERS, mtp_layers=0),
        "qwen3": qwen3(folder / "qwen3", seed=4, layers=LAYERS),
    }
    return {
        name: Target(
            path, load_model(str(path), "cpu"), load_model(str(path), "cpu", dtype="float64")
        )
        for name, path in made.items()
    }


def qwen3(folder: Path, *, seed: int, width: int = 32, layers: int = 6) -> Path:
    """A tiny Qwen3 with a letter tokenizer, saved to `folder`."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=32,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=None,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    model = Qwen3ForCausalLM(config)
    model.lm_head.weight.data *= 3
    model.generation_config = GenerationConfig(bos_token_id=0, pad_token_id=1)
    model.save_pretrained(folder)
    letter_tokenizer().save_pretrained(folder)
    return folder


def write_head(
    folder: Path,
    target: Path,
    *,
    packaging: str = "SafeAILab",
    seed: int = 0,
    width: int | None = None,
    drafted: int = DRAFTED,
    layers: int = 1,
    ids: tuple[int, ...] | None = None,
    own_embeddings: bool = False,
    qk_norms: bool = False,
    biases: bool = False,
    rope: dict[str, Any] | None = None,
    **flags: bool,
) -> Path:
    """A head for the target in `folder`, with random weights.

    `ids` are the target's states, numbered as transformers' `hidden_states`, and are written in the
    packaging's own convention; None leaves them out. `flags` are `norm_before_residual`,
    `norm_before_fc`, `fc_norm` and `norm_output`.
    """
    theirs = json.loads((target / "config.json").read_text())
    theirs = theirs.get("text_config") or theirs
    target_width = theirs["n_embd"] if "n_embd" in theirs else theirs["hidden_size"]
    vocabulary = theirs["vocab_size"]
    width = width or target_width
    states = 3 if ids is None else len(ids)
    layer = _layer(width, layers, vocabulary, biases) | (rope or {})
    if rope is None:
        layer["rope_theta"] = 10000.0
    config = {"draft_vocab_size": drafted, **flags, **_packed(packaging, layer, ids)}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(seed)
    first = "layers.0." if packaging == "speculators" else "midlayer."
    shapes = _shapes(first, width, states * target_width, drafted, layers, qk_norms, biases)
    if flags.get("norm_before_fc"):
        shapes["input_norm.weight"] = (states * target_width,)
    if flags.get("fc_norm"):
        shapes |= {f"fc_norm.{index}.weight": (target_width,) for index in range(states)}
    if own_embeddings:
        shapes["embed_tokens.weight"] = (vocabulary, width)
    tensors = {
        name: torch.randn(shape, generator=generator) * 0.3 + (len(shape) == 1 and "norm" in name)
        for name, shape in shapes.items()
    }
    if drafted < vocabulary:
        chosen = torch.randperm(vocabulary, generator=generator)[:drafted].sort().values
        tensors["d2t"] = chosen - torch.arange(drafted)
        tensors["t2d"] = torch.zeros(vocabulary, dtype=torch.bool).index_fill_(0, chosen, True)
    save_file(tensors, folder / "model.safetensors")
    return folder


def write_masked_head(
    folder: Path,
    target: Path,
    packaging: str,
    *,
    ids: tuple[int, ...] | None = None,
    **fields: object,
) -> Path:
    """A P-EAGLE head of two layers with random weights; fields that are None are left out."""
    write_head(folder, target, packaging=packaging, layers=2, own_embeddings=True, ids=ids)
    path = folder / "config.json"
    config = json.loads(path.read_text()) | {"mask_token_id": 31}
    if packaging == "speculators":
        methods = [{"proposal_type": "greedy", "speculative_tokens": 5}]
        config |= {"speculators_model_type": "peagle", "architectures": ["PEagleDraftModel"]}
        config["speculators_config"] = {"algorithm": "peagle", "proposal_methods": methods}
    else:
        config["architectures"] = ["PEagleDraftModel"]
    config |= fields
    path.write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    generator = torch.Generator().manual_seed(7)
    return edit_tensors(folder, mask_hidden=torch.randn(1, 1, 96, generator=generator))


def _layer(width: int, layers: int, vocabulary: int, biases: bool) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocabulary,
        "max_position_embeddings": 128,
        "attention_bias": biases,
    }


def _packed(packaging: str, layer: dict[str, Any], ids: tuple[int, ...] | None) -> dict[str, Any]:
    """The layer's fields as the packaging has them, and the ids of layers by its convention."""
    field = "eagle_aux_hidden_state_layer_ids"
    if packaging == "SpecForge":
        named = {"architectures": ["LlamaForCausalLMEagle3"]}
        outputs = [] if ids is None else [number - 1 for number in ids]
        return {**layer, **named, "eagle_config": {field: outputs}}
    states = {} if ids is None else {field: list(ids)}
    if packaging == "SafeAILab":
        return {**layer, "architectures": ["LlamaForCausalLM"], **states}
    return {
        "architectures": ["Eagle3Speculator"],
        "speculators_model_type": "eagle3",
        "speculators_config": {"algorithm": "eagle3", "verifier": {"name_or_path": None}},
        "target_hidden_size": None,
        "transformer_layer_config": layer,
        **states,
    }


def _shapes(
    first: str, width: int, joined: int, drafted: int, layers: int, qk_norms: bool, biases: bool
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "fc.weight": (width, joined),
        "norm.weight": (width,),
        "lm_head.weight": (drafted, width),
    }
    for index in range(layers):
        prefix, reads = (f"layers.{index}.", width) if index else (first, 2 * width)
        attention = f"{prefix}self_attn."
        shapes |= {
            f"{prefix}input_layernorm.weight": (width,),
            f"{prefix}post_attention_layernorm.weight": (width,),
            f"{attention}q_proj.weight": (32, reads),
            f"{attention}k_proj.weight": (16, reads),
            f"{attention}v_proj.weight": (16, reads),
            f"{attention}o_proj.weight": (width, 32),
            f"{prefix}mlp.gate_proj.weight": (2 * width, width),
            f"{prefix}mlp.up_proj.weight": (2 * width, width),
            f"{prefix}mlp.down_proj.weight": (width, 2 * width),
        }
        if not index:
            shapes[f"{prefix}hidden_norm.weight"] = (width,)
        if qk_norms:
            shapes |= {f"{attention}{name}_norm.weight": (8,) for name in "qk"}
        if biases:
            sizes = {"q_proj": 32, "k_proj": 16, "v_proj": 16, "o_proj": width}
            shapes |= {f"{attention}{name}.bias": (size,) for name, size in sizes.items()}
    return shapes


def edit_tensors(folder: Path, **tensors: torch.Tensor | None) -> Path:
    """Change tensors of a head by name, `__` for each dot; None removes one."""
    path = folder / "model.safetensors"
    held = load_file(path)
    for name, tensor in tensors.items():
        held.pop(name.replace("__", "."), None)
        if tensor is not None:
            held[name.replace("__", ".")] = tensor
    save_file(held, path)
    return folder
