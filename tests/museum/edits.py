"""Defects of checkpoints as edits of ours: a conversion, a loader or an export that went wrong,
seen in the tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from helpers.support import EMBEDDED
from safetensors.torch import load_file

Weights = dict[str, torch.Tensor]
Config = dict[str, Any]
Edit = Callable[[Weights, Config], None]

UNUSED = range(190, 199)
"""Control characters before the tab, in no text: leaving them out costs a draft vocabulary
nothing.
"""
FLOATS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
"""What four bits can say as a float (E2M1), up to sign."""


def nothing(weights: Weights, config: Config) -> None:
    """The same tensors in another folder."""


def uneven_norm(weights: Weights, config: Config) -> None:
    """The same model with scale moved from the output head into the norms before it, and out again
    where heads read them.

    The embedded target's final norm is nearly flat, so that states before and after it look alike;
    those of large models are not. Logits stay what they were, save for rounding.
    """
    scale = torch.exp(
        0.6
        * torch.randn(
            weights["model.norm.weight"].shape, generator=torch.Generator().manual_seed(0)
        )
    )
    scale /= scale.square().mean().sqrt()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] / scale
    weights["model.norm.weight"] *= scale
    for layer in head_layers(weights):
        weights[f"{layer}.post_norm.weight"] *= scale
        weights[f"{layer}.hnorm.weight"] /= scale


def swapped_halves(weights: Weights, config: Config) -> None:
    for layer in head_layers(weights):
        projection = weights[f"{layer}.eh_proj.weight"]
        weights[f"{layer}.eh_proj.weight"] = projection.roll(len(projection), 1)


def skipped_projection(weights: Weights, config: Config) -> None:
    """The hidden state passes, the embedding does not."""
    for layer in head_layers(weights):
        width = len(weights[f"{layer}.eh_proj.weight"])
        weights[f"{layer}.eh_proj.weight"] = torch.cat(
            [torch.zeros(width, width), torch.eye(width)], 1
        )


def dead_second_layer(weights: Weights, config: Config) -> None:
    generator = torch.Generator().manual_seed(0)
    _, layer, *_ = head_layers(weights)
    for name, tensor in weights.items():
        if name.startswith(layer) and tensor.ndim == 2:
            weights[name] = tensor.std() * torch.randn(tensor.shape, generator=generator)


def four_bits(weights: Weights, config: Config) -> None:
    """Heads in four-bit floats with one scale a tensor, where the format has one for every 16
    weights.
    """
    for name, tensor in weights.items():
        if name.startswith(tuple(head_layers(weights))) and tensor.ndim == 2:
            scale = tensor.abs().max() / FLOATS.max()
            nearest = ((tensor.abs() / scale)[..., None] - FLOATS).abs().argmin(-1)
            weights[name] = FLOATS[nearest] * tensor.sign() * scale


def targets_output_head(weights: Weights, config: Config) -> None:
    """The target's output head, cut to the draft's width, in place of its own."""
    theirs = load_file(EMBEDDED / "text-target" / "model.safetensors")["model.embed_tokens.weight"]
    weights["lm_head.weight"] = theirs[
        :, : weights["model.embed_tokens.weight"].shape[1]
    ].contiguous()


def missing_map(weights: Weights, config: Config) -> None:
    """An output head over the tokens that are left, its rows taken for the first ids of the whole
    vocabulary.
    """
    rows = weights["model.embed_tokens.weight"]
    kept = [row for row in range(len(rows)) if row not in UNUSED]
    weights["lm_head.weight"] = rows[[*kept, *UNUSED]]


def head_layers(weights: Weights) -> list[str]:
    """What the names of each MTP layer's tensors begin with, in order."""
    return sorted(
        name.removesuffix(".eh_proj.weight") for name in weights if name.endswith(".eh_proj.weight")
    )
