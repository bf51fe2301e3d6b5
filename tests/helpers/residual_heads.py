"""Tiny random Medusa and Hydra heads in the layouts of published ones, and their definition written
out one head and one anchor at a time.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pytest_specdec.decoding.loading import LoadedModel

HEADS = 4


def write_medusa(
    folder: Path,
    target: Path,
    *,
    packaging: str = "FasterDecoding",
    seed: int = 0,
    heads: int = HEADS,
    layers: int = 1,
    prefix: str = "",
    **config: Any,
) -> Path:
    """Medusa heads for the target in `folder`, with random weights; `config` are further fields.

    `packaging` is `FasterDecoding` or `vLLM`; with `truncated_vocab_size` there is a token_map.
    """
    width, vocabulary = _sizes(target)
    drafted = config.get("truncated_vocab_size", vocabulary)
    shapes: dict[str, tuple[int, ...]] = {}
    for head in range(heads):
        for layer in range(layers):
            name = f"{head}.{layer}.linear"
            if packaging == "vLLM":
                name = f"blocks.{head}.layers.{layer}"
            shapes[f"{name}.weight"] = (width, width)
            if packaging != "vLLM" or config.get("medusa_fc_bias"):
                shapes[f"{name}.bias"] = (width,)
        if packaging != "vLLM" and config.get("version") != "2":
            shapes[f"{head}.{layers}.weight"] = (vocabulary, width)
        elif packaging == "vLLM" and not (config.get("original_lm_head") and head):
            shapes[f"lm_heads.{head}.weight"] = (drafted, width)
    tensors = {f"{prefix}{name}": tensor for name, tensor in _random(shapes, seed).items()}
    if drafted < vocabulary:
        generator = torch.Generator().manual_seed(seed)
        tensors["token_map"] = torch.randperm(vocabulary, generator=generator)[:drafted]
    field = "num_heads" if packaging == "vLLM" else "medusa_num_heads"
    if packaging == "vLLM":
        config = {"model_type": "medusa", "hidden_size": width, "vocab_size": vocabulary} | config
        config |= {"num_hidden_layers": layers}
    else:
        config = {"medusa_num_layers": layers} | config
    return _saved(folder, {field: heads} | config, tensors)


def write_hydra(
    folder: Path,
    target: Path,
    *,
    seed: int = 0,
    heads: int = HEADS,
    layers: int = 1,
    grounded: bool = True,
    **config: Any,
) -> Path:
    """Hydra heads for the target in `folder`, with random weights."""
    width, vocabulary = _sizes(target)
    shapes: dict[str, tuple[int, ...]] = {}
    for head in range(heads):
        for layer in range(layers):
            reads = width * (head + 2) if grounded and layer == 0 else width
            name = f"hydra_mlp.{head}.{layer}"
            shapes[f"{name}.linear.weight"] = (width, reads)
            shapes[f"{name}.linear.bias"] = (width,)
            if reads != width:
                shapes[f"{name}.res_connection.weight"] = (width, reads)
                shapes[f"{name}.res_connection.bias"] = (width,)
        shapes[f"hydra_lm_head.{head}.weight"] = (vocabulary, width)
        shapes[f"hydra_lm_head.{head}.bias"] = (vocabulary,)
    config = {"hydra_num_layers": layers, "grounded_heads": grounded} | config
    return _saved(folder, {"hydra_num_heads": heads} | config, _random(shapes, seed))


def _sizes(target: Path) -> tuple[int, int]:
    theirs = json.loads((target / "config.json").read_text())
    return theirs["hidden_size"], theirs["vocab_size"]


def _random(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.4 for name, shape in shapes.items()}


def _saved(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "medusa_lm_head.safetensors")
    return folder


class SerialHeads:
    """Heads of a folder by their published definition, one head, anchor and layer at a time."""

    def __init__(self, folder: Path, target: LoadedModel) -> None:
        self._config = json.loads((folder / "config.json").read_text())
        (path,) = folder.glob("*.safetensors")
        self._weights = {
            name.replace("medusa_head.", "").replace("medusa_heads.", ""): tensor.to(
                target.model.dtype if tensor.is_floating_point() else tensor.dtype
            )
            for name, tensor in load_file(path).items()
        }
        self._model = target.model

    def steps(self, ids: Sequence[int]) -> Generator[torch.Tensor, int, None]:
        """Logits (vocabulary,) of each draft after the text, whose last token the target has not
        read yet; receives each draft.
        """
        with torch.no_grad():
            passed = self._model(
                torch.tensor([list(ids[:-1])]), output_hidden_states=True
            ).hidden_states
        state = passed[-1 - int(self._config.get("hidden_state_offset", 0))][0, -1]
        following = [ids[-1]]
        for head in range(HEADS):
            drafted = yield self._logits(head, state, following)
            following.append(drafted)

    def _logits(self, head: int, state: torch.Tensor, following: list[int]) -> torch.Tensor:
        if "hydra_num_heads" in self._config:
            return self._hydra(head, state, following)
        vllm = "num_heads" in self._config
        for layer in range(self._config["num_hidden_layers" if vllm else "medusa_num_layers"]):
            name = f"blocks.{head}.layers.{layer}" if vllm else f"{head}.{layer}.linear"
            changed = self._weights[f"{name}.weight"] @ state
            if f"{name}.bias" in self._weights:
                changed = changed + self._weights[f"{name}.bias"]
            state = state + changed * torch.sigmoid(changed)
        shared = self._config.get("original_lm_head")
        output = f"lm_heads.{0 if shared else head}" if vllm else f"{head}.{layer + 1}"
        matrix = self._weights.get(f"{output}.weight", self._model.get_output_embeddings().weight)
        logits = matrix @ state * self._config.get("logit_scale", 1.0)
        if "token_map" not in self._weights:
            return logits
        whole = torch.full((self._config["vocab_size"],), -torch.inf, dtype=logits.dtype)
        whole[self._weights["token_map"]] = logits
        return whole

    def _hydra(self, head: int, state: torch.Tensor, following: list[int]) -> torch.Tensor:
        if self._config["grounded_heads"]:
            table = self._model.get_input_embeddings().weight
            state = torch.cat([state, *(table[token] for token in following)])
        for layer in range(self._config["hydra_num_layers"]):
            name, kept = f"hydra_mlp.{head}.{layer}", state
            if f"{name}.res_connection.weight" in self._weights:
                kept = self._affine(f"{name}.res_connection", state)
            changed = self._affine(f"{name}.linear", state)
            state = kept + changed * torch.sigmoid(changed)
        return self._affine(f"hydra_lm_head.{head}", state)

    def _affine(self, name: str, state: torch.Tensor) -> torch.Tensor:
        return self._weights[f"{name}.weight"] @ state + self._weights[f"{name}.bias"]
