"""Weights that a model can compute with."""

from __future__ import annotations

from pathlib import Path

import torch

from ..common.errors import RequestError


def check_weights(module: torch.nn.Module, folder: Path) -> None:
    """Raises RequestError for a weight that is NaN or infinite in the number format that the module
    was loaded in: float16 holds no number above 65,504.
    """
    for name, weight in module.named_parameters():
        plain = weight.detach()
        coarse = not plain.is_floating_point() or plain.element_size() < 2
        quantised = coarse or type(plain) is not torch.Tensor
        if quantised or plain.is_meta or not plain.numel():
            continue
        lowest, highest = plain.aminmax()  # NaN where any is
        if not bool(lowest.isfinite() & highest.isfinite()):
            dtype = str(weight.dtype).removeprefix("torch.")
            raise RequestError(
                f"{name} of {folder} holds NaN or infinite numbers in {dtype}; save the model "
                "again from a sound checkpoint, or load it in a number format that holds them "
                "(--specdec-dtype=float32)"
            )
