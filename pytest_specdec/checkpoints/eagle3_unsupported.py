"""Parts of an EAGLE-3 head's config.json that loaders compute differently, or overlook."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError

FLAGS = ("norm_before_residual", "norm_before_fc", "fc_norm", "norm_output")
STATES = ("eagle_aux_hidden_state_layer_ids", "aux_hidden_state_layer_ids")
_SPELT = (*FLAGS, *STATES, "draft_vocab_size", "rope_theta", "rope_scaling", "head_dim")
"""Fields whose loss changes what the head computes and breaks nothing."""
_SIMILAR = 0.9
"""Least similarity (`difflib`) of a name to the field that is meant."""


def check_supported(
    path: Path, config: Mapping[str, Any], layer: Mapping[str, Any], algorithm: str
) -> None:
    """Raises RequestError for what this loader would silently compute in another way.

    `layer` is the part that describes the decoder layer, `algorithm` speculators' name of the kind
    of head; `path` is config.json, for messages.
    """
    _check_method(path, config, algorithm)
    _check_attention(path, layer)
    activation = layer.get("hidden_act", "silu")
    if activation not in (None, "silu"):
        raise _unsupported(path, f"hidden_act: {str(activation)[:40]!r}", "silu is")
    for part in (config, layer):
        if part.get("quantization_config") is not None:
            raise RequestError(
                f"{path} has a quantization_config, and quantised heads are not supported; use a "
                "copy in bfloat16 or float16, and remove the field"
            )
        _check_spelling(path, part)


def _check_method(path: Path, config: Mapping[str, Any], expected: str) -> None:
    inner = config.get("eagle_config")
    if inner is not None and not isinstance(inner, Mapping):
        raise RequestError(
            f"{path} says eagle_config: {str(inner)[:60]}, which is no set of fields; correct it"
        )
    if inner is not None:
        for name in ("use_aux_hidden_state", "use_input_layernorm_in_first_layer"):
            if inner.get(name) is False:
                raise _unsupported(path, f"eagle_config.{name}: false", "heads with it are")
    outer = config.get("speculators_config")
    algorithm = outer.get("algorithm") if isinstance(outer, Mapping) else None
    if algorithm not in (None, expected):
        kind = "an EAGLE-3" if expected == "eagle3" else "a P-EAGLE"
        raise RequestError(
            f"{path} says speculators_config.algorithm: {str(algorithm)[:40]!r} of {kind} "
            "head; correct it, or name a head that is one"
        )


def _check_attention(path: Path, layer: Mapping[str, Any]) -> None:
    if layer.get("mlp_bias"):
        raise _unsupported(path, "mlp_bias: true", "an MLP without biases is")
    kinds = layer.get("layer_types")
    if kinds is not None and (
        not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds)
    ):
        raise _unsupported(path, f"layer_types: {str(kinds)[:60]}", "full_attention is")
    if layer.get("use_sliding_window") and layer.get("sliding_window") is not None:
        raise _unsupported(
            path,
            f"use_sliding_window: true and sliding_window: {str(layer['sliding_window'])[:40]}",
            "full attention is",
        )


def _check_spelling(path: Path, config: Mapping[str, Any]) -> None:
    """No field is one that matters, spelt wrongly: every loader would take its default."""
    for name in config:
        if name in _SPELT or not isinstance(name, str):
            continue
        if meant := difflib.get_close_matches(name, _SPELT, n=1, cutoff=_SIMILAR):
            raise RequestError(
                f"{path} has the field {name[:60]!r}, which no loader reads; write {meant[0]}, or "
                "remove it"
            )


def _unsupported(path: Path, says: str, only: str) -> RequestError:
    return RequestError(f"{path} says {says}, and only {only} supported; use another head")
