"""config.json compared with the tensors of the folder, before a model is built from it.

A loader builds what the configuration announces and only then looks for weights, so a slip or an
attack there costs minutes, memory, or runs somebody's code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from .safetensors_header import Tensor

_POSITIVE = (
    "vocab_size",
    "hidden_size",
    "n_embd",
    "d_model",
    "intermediate_size",
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "moe_intermediate_size",
)
"""Sizes that are at least 1."""
_COUNTS = (
    "num_mtp_layers",
    "num_nextn_predict_layers",
    "mtp_num_hidden_layers",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
)
"""Numbers that may be 0."""
_CONTEXTS = (
    "max_position_embeddings",
    "n_positions",
    "sliding_window",
    "original_max_position_embeddings",
)
_MOST_CONTEXT = 2**31
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_layers")
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d{1,9})\.")
_EMBEDDING = re.compile(
    r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$"
)
_OTHER_WIDTHS = (
    "word_embed_proj_dim",
    "embedding_size",
    "embedding_dim",
    "hidden_size_per_layer_input",
)
"""Fields of models whose embedding is narrower than their layers."""
_FLOATS = ("F64", "F32", "F16", "BF16")

_FETCHING = (
    "mxfp4",
    "mxfp8",
    "fp8",
    "fbgemm_fp8",
    "nvfp4",
    "eetq",
    "metal",
    "gguf",
    "finegrained_fp8",
)
"""Quantisations whose code transformers fetches from the model hub."""
_WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")


def count_of(value: Any) -> int | None:
    """A whole number, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def check_config(
    folder: Path, config: Mapping[str, Any], text: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Refuse a configuration that names foreign code, holds impossible sizes, or announces more
    than the tensors hold.

    `text` is the language model's part of `config`, `tensors` those of the model without its MTP
    layers. Raises RequestError.
    """
    path = folder / "config.json"
    for part in (config, text):
        _check_code(path, part)
    elements = sum(tensor.elements for tensor in tensors.values())
    for name, value in _sizes(text):
        least = 1 if name in _POSITIVE else 0
        most = _MOST_CONTEXT if name in _CONTEXTS else max(elements, 1)
        if not _is_size(value, least, most):
            limit = "" if name in _CONTEXTS else f", and the tensors hold {elements} numbers in all"
            raise RequestError(
                f"{path} says {name}: {_shown(value)}, which no model has{limit}; save the "
                "checkpoint again"
            )
    if any(map(_LAYER.search, tensors)):
        check_layers(path, text, tensors)
    _check_embedding(path, text, tensors)


def _sizes(text: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in (*_POSITIVE, *_COUNTS, *_CONTEXTS):
        value = text.get(name)
        if value is not None:
            yield name, value


def _is_size(value: Any, least: int, most: int) -> bool:
    """A list stands for the sizes of the layers one by one."""
    if isinstance(value, list):
        return all(_is_size(item, 0, most) for item in value if item is not None)
    count = count_of(value)
    return count is not None and least <= count <= most


def check_layers(path: Path, text: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Refuse a configuration with more layers than tensors show, also where these are of no layer.

    Raises RequestError.
    """
    name, announced = next(
        ((name, count) for name in _LAYER_COUNTS if (count := count_of(text.get(name)))), ("", 0)
    )
    held = {int(match.group(1)) for tensor in tensors if (match := _LAYER.search(tensor))}
    most = len(held) if held else len(tensors)
    if announced > most:
        raise RequestError(
            f"{path} says {name}: {announced} and the tensors are of {most} layers; save the whole "
            "model, or correct the number"
        )


def _is_float_matrix(tensor: Tensor) -> bool:
    return tensor.dtype in _FLOATS and len(tensor.shape) == 2


def _check_embedding(path: Path, text: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    embeddings = [tensor for name, tensor in tensors.items() if _EMBEDDING.search(name)]
    if len(embeddings) != 1 or not _is_float_matrix(embeddings[0]):
        return
    rows, columns = embeddings[0].shape
    width = next(
        (name for name in ("hidden_size", "n_embd", "d_model") if count_of(text.get(name))), None
    )
    for name, held in (("vocab_size", rows), (width, columns)):
        announced = None if name is None else count_of(text.get(name))
        narrow = name == width and any(text.get(other) is not None for other in _OTHER_WIDTHS)
        if announced is not None and announced != held and not narrow:
            raise RequestError(
                f"{path} says {name}: {announced} and the embedding is of {rows} tokens by "
                f"{columns}; save the checkpoint again"
            )


def _check_code(path: Path, part: Mapping[str, Any]) -> None:
    """What would have transformers fetch or patch code, or open other files than those that the
    fingerprints cover.
    """
    quantization = part.get("quantization_config")
    if quantization is not None:
        method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
        if not isinstance(method, str) or method in _FETCHING:
            raise RequestError(
                f"{path} names the quantization {_shown(method)}, whose code transformers fetches "
                "from the model hub; name a "
                "copy of the model in bfloat16 or float16"
            )
    if part.get("fusion_config"):
        raise RequestError(
            f"{path} asks transformers to patch its own code (fusion_config); remove the field"
        )
    if (named := part.get("transformers_weights")) is not None and named not in _WEIGHT_FILES:
        raise RequestError(
            f"{path} names {_shown(named)} as its weights (transformers_weights); name them "
            "model.safetensors, without the field"
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
