"""Parts of a block drafter's config.json whose meaning is not public, or that implementations
compute differently.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError

_UNKNOWN = {
    "conv_kernel_size": "DFlash 2's convolution",
    "selector_rank": "DFlash 2's selector",
    "selector_top_k": "DFlash 2's selector",
    "dspark_block_size": "DeepSeek-V4's DSpark, whose layers are its target's own",
    "use_swa": "sliding windows beside layer_types",
    "swa_window_size": "sliding windows beside layer_types",
    "attention_sink_bias": "attention sinks",
    "add_swa_attention_sink_bias": "attention sinks",
    "num_experts": "experts",
    "n_routed_experts": "experts",
    "kv_lora_rank": "latent attention",
}
"""Fields of drafters that are something else, and what."""
_SPELT = (
    "block_size",
    "mask_token_id",
    "target_layer_ids",
    "aux_hidden_state_layer_ids",
    "sample_from_anchor",
    "sliding_window_non_causal",
    "shift_label",
    "pure_draft_prefix_len",
    "markov_rank",
    "markov_head_type",
    "draft_vocab_size",
    "rope_theta",
    "head_dim",
)
"""Fields whose loss changes what the drafter computes and breaks nothing."""
_SIMILAR = 0.9
"""Least similarity (`difflib`) of a name to the field that is meant."""


def check_block_supported(
    path: Path, config: Mapping[str, Any], layer: Mapping[str, Any], own: Mapping[str, Any]
) -> None:
    """Raises RequestError for what this loader would silently compute in another way.

    `layer` is the part that describes the decoder layers, `own` the part with the drafter's own
    fields; `path` is config.json, for messages.
    """
    for part in (config, layer, own):
        for name, what in _UNKNOWN.items():
            if part.get(name) not in (None, False, 0):
                raise _unsupported(path, f"{name}: {str(part[name])[:40]} ({what})", "drafters")
        if part.get("quantization_config") is not None:
            raise RequestError(
                f"{path} has a quantization_config, and quantised drafters are not supported; use "
                "a copy in bfloat16 or float16, and remove the field"
            )
        _check_spelling(path, part)
    classes = config.get("architectures")
    named = [str(name) for name in classes] if isinstance(classes, list) else []
    if any("gemma" in name.lower() for name in named):
        raise _unsupported(path, f"architectures: {named}", "layers like Qwen3's")
    if (kind := layer.get("model_type", "qwen3")) not in ("qwen3", "llama"):
        raise _unsupported(path, f"model_type: {str(kind)[:40]!r}", "layers like Qwen3's")
    if layer.get("hidden_act", "silu") != "silu":
        raise _unsupported(path, f"hidden_act: {str(layer['hidden_act'])[:40]!r}", "silu")
    for name, only in (
        ("mlp_bias", "an MLP without biases"),
        ("rope_interleave", "rotary pairs of halves"),
        ("rope_interleaved", "rotary pairs of halves"),
    ):
        if layer.get(name):
            raise _unsupported(path, f"{name}: true", only)
    for part, name in ((config, "is_neox_style"), (own, "use_aux_hidden_state")):
        if part.get(name) is False:
            raise _unsupported(path, f"{name}: false", "true")


def _check_spelling(path: Path, part: Mapping[str, Any]) -> None:
    """No field is one that matters, spelt wrongly: every loader would take its default."""
    for name in part:
        if name in _SPELT or not isinstance(name, str):
            continue
        if meant := difflib.get_close_matches(name, _SPELT, n=1, cutoff=_SIMILAR):
            raise RequestError(
                f"{path} has the field {name[:60]!r}, which no loader reads; write {meant[0]}, or "
                "remove it"
            )


def _unsupported(path: Path, says: str, only: str) -> RequestError:
    return RequestError(
        f"{path} says {says}, and only {only} without it are supported; use another drafter"
        if only == "drafters"
        else f"{path} says {says}, and only {only} is supported; use another drafter"
    )
