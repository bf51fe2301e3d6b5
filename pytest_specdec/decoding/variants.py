"""Variants of a checkpoint, as they are served: a LoRA adapter merged, or weights rounded.

A variant is a checkpoint folder like any other, so targets and drafters, replay and decode, take it
as they take the original, and its fingerprint is that of its own weights. The files are rewritten
tensor by tensor; configuration, tokenizer and MTP layers are copied.

An adapter is read from PEFT's two files by hand: its configuration may name modules to import and
patterns to run, and none of that is needed to add `B A` to a matrix.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..checkpoints.checkpoint import Checkpoint, open_checkpoint
from ..common.bounded_files import read_text
from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json

Progress = Callable[[str, int, int], None]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_GROUP = 128
"""Columns that share a scale, of int4."""
_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight")
_OUTER = re.compile(r"embed|wte|wpe|lm_head")
"""Names of embeddings and output layers, which quantisers leave as they are."""
_PLAIN = {
    "use_dora": (False, None),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
    "modules_to_save": ([], None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    # Others subtract something from the base weights.
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal"),
    "layers_to_transform": ([], None),
    "target_parameters": ([], None),
    "trainable_token_indices": ([], {}, None),
    "alora_invocation_tokens": ([], None),
}
"""Fields of an adapter's configuration, and the values under which it is plain LoRA."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraAdapter:
    """A LoRA adapter: what is added to each matrix of a model."""

    folder: Path
    scale: float
    """Factor of `B A`: alpha / r, or alpha / sqrt(r) with rslora."""
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    """A (r, in) and B (out, r) by the name of the model's tensor."""


def read_adapter(folder: Path) -> LoraAdapter:
    """Read a PEFT adapter. Raises RequestError for another kind than plain LoRA, for weights that
    are not safetensors, and for files that contradict each other.
    """
    config = _config(folder)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    numbers = all(
        isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < 1e6
        for number in (rank, alpha)
    )
    if not numbers or not isinstance(rank, int) or not isinstance(alpha, int | float):
        raise RequestError(f"{folder / CONFIG} names no r and lora_alpha; save the adapter again")
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise RequestError(
            f"{folder / WEIGHTS} cannot be read ({error}); save the adapter as safetensors, "
            "pickled ones are not loaded"
        ) from None
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _KEY.fullmatch(name)
        if match is None:
            raise RequestError(
                f"{folder / WEIGHTS} holds {name[:80]}, which is no part of a plain LoRA adapter; "
                "merge it with peft and name the merged checkpoint"
            )
        if not _is_target(config.get("target_modules"), match[1]):
            raise RequestError(
                f"{folder / WEIGHTS} holds {name[:80]}, which is none of the target_modules of "
                f"{CONFIG}; save the adapter again"
            )
        if not bool(tensor.isfinite().all()):
            raise RequestError(f"{folder / WEIGHTS}: {name[:80]} is not finite; train it again")
        halves.setdefault(f"{match[1]}.weight", {})[match[2]] = tensor.float()
    for name, half in halves.items():
        if (
            half.keys() != {"A", "B"}
            or half["A"].shape[:1] != (rank,)
            or (half["B"].shape[1:] != (rank,))
        ):
            raise RequestError(
                f"{folder}: the tensors of {name[:80]} are not a pair of rank {rank}, as "
                f"{CONFIG} says; save the adapter again"
            )
    if not halves:
        raise RequestError(f"{folder / WEIGHTS} holds no tensor; save the adapter again")
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") is True else rank)
    pairs = {name: (half["A"], half["B"]) for name, half in halves.items()}
    return LoraAdapter(folder=folder, scale=scale, pairs=pairs)


def _is_target(targets: object, module: str) -> bool:
    """Whether an adapter's configuration says that it changes a module, as peft reads it."""
    if targets is None or targets == "all-linear":
        return True
    if isinstance(targets, str):
        return re.fullmatch(targets, module) is not None
    names = targets if isinstance(targets, list) else []
    return any(module == name or module.endswith(f".{name}") for name in names)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = parse_json(read_text(path))
    except OSError as error:
        raise RequestError(
            f"{path} cannot be read ({error.strerror}); name the folder of a PEFT adapter"
        ) from None
    except (JsonError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise RequestError(f"{path} is not that of a LoRA adapter; name the folder of one")
    for name, plain in _PLAIN.items():
        if name in config and config[name] not in plain:
            raise RequestError(
                f"{path}: {name} is {json.dumps(config[name])[:80]}, and only plain LoRA is merged "
                "here; merge it with peft and name the merged checkpoint"
            )
    return config


def merged(adapter: LoraAdapter, name: str, weight: torch.Tensor) -> torch.Tensor:
    """A matrix with the adapter's part added, computed in float32, in its own format.

    Raises RequestError for another shape than the adapter's.
    """
    if name not in adapter.pairs:
        return weight
    a, b = adapter.pairs[name]
    if weight.shape != (b.shape[0], a.shape[1]):
        raise RequestError(
            f"{adapter.folder} was made for another model: {name} is {list(weight.shape)} here and "
            f"{[b.shape[0], a.shape[1]]} in the adapter; name its model"
        )
    return (weight.float() + adapter.scale * (b @ a)).to(weight.dtype)


def rounded(weight: torch.Tensor, bits: int, group: int | None = None) -> torch.Tensor:
    """A matrix rounded to signed integers, symmetrically, one scale for each row, or for each
    `group` columns of it where they divide it; in its own format.

    >>> rounded(torch.tensor([[1.0, -0.3, 0.02]]), 4).tolist()
    [[1.0, -0.2857142984867096, 0.0]]
    """
    rows = weight.float()
    if group is not None and rows.shape[-1] % group == 0:
        rows = rows.reshape(-1, group)
    scale = rows.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return ((rows / scale).round() * scale).reshape(weight.shape).to(weight.dtype)


def stored_as(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A matrix as it comes back from another number format."""
    return weight.to(dtype).to(weight.dtype)


def _fp8(weight: torch.Tensor) -> torch.Tensor:
    """Rounded to float8 (e4m3), one scale for each row."""
    scale = weight.float().abs().amax(-1, keepdim=True) / 448.0
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return ((weight.float() / scale).to(torch.float8_e4m3fn).float() * scale).to(weight.dtype)


ROUNDINGS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "bfloat16": lambda weight: stored_as(weight, torch.bfloat16),
    "float16": lambda weight: stored_as(weight, torch.float16),
    "fp8": _fp8,
    "int8": lambda weight: rounded(weight, 8),
    "int4": lambda weight: rounded(weight, 4, _GROUP),
}
"""Number formats of weights, and what a matrix becomes in them."""


def write_variant(
    source: Path,
    folder: Path,
    *,
    adapter: LoraAdapter | None = None,
    rounding: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> int:
    """Write a checkpoint with an adapter merged, and then its matrices rounded.

    Parameters
    ----------
    source
        A checkpoint folder with safetensors weights.
    folder
        Where to write; must not be there yet.
    adapter
        From `read_adapter`; every one of its tensors must have its matrix in the checkpoint.
    rounding
        A name of `ROUNDINGS`; embeddings, output layer, vectors and MTP layers stay as they are.
    progress
        Called as (what is done, files done, files in all).

    Returns
    -------
    int
        The number of matrices that were changed.

    Raises
    ------
    RequestError
        For a folder that is there, an adapter of another model, or a checkpoint that holds
        quantised weights already. Nothing is left half-written.
    """
    if folder.exists():
        raise RequestError(f"{folder} is there already; name a folder that is not")
    checkpoint = open_checkpoint(source)
    if "quantization_config" in checkpoint.config:
        raise RequestError(
            f"{source} holds quantised weights already; name the model that it was made from"
        )
    if adapter is not None and (foreign := sorted(adapter.pairs.keys() - checkpoint.tensors)):
        raise RequestError(
            f"{adapter.folder} was made for another model: {source} has no {foreign[0][:80]}; name "
            "its model"
        )
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        changed = _write(checkpoint, unfinished, adapter, rounding, progress)
        unfinished.rename(folder)
    except OSError as error:
        raise RequestError(f"{folder} cannot be written ({error.strerror}); check it") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return changed


def _write(
    checkpoint: Checkpoint,
    folder: Path,
    adapter: LoraAdapter | None,
    rounding: str | None,
    progress: Progress,
) -> int:
    for path in sorted(checkpoint.folder.iterdir()):
        if path.is_file() and path.suffix in (".json", ".jinja", ".txt", ".model"):
            shutil.copyfile(path, folder / path.name)
    files, changed = checkpoint.weight_files, 0
    for done, path in enumerate(files):
        progress("writing weights", done, len(files))
        tensors = load_file(path)
        for name, weight in tensors.items():
            new = weight if adapter is None else merged(adapter, name, weight)
            if rounding is not None and _is_rounded(checkpoint, name, weight):
                new = ROUNDINGS[rounding](new)
            changed += not torch.equal(new, weight)
            tensors[name] = new.contiguous()
        save_file(tensors, folder / path.name, metadata={"format": "pt"})
    progress("writing weights", len(files), len(files))
    return changed


def _is_rounded(checkpoint: Checkpoint, name: str, weight: torch.Tensor) -> bool:
    matrix = weight.dim() == 2 and weight.is_floating_point() and name.endswith(".weight")
    return matrix and not _OUTER.search(name) and not checkpoint.is_mtp_tensor(name)
