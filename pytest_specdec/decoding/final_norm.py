"""A target's last hidden states on either side of its final norm."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

_OFF = 0.05
"""How far rounding may move the mean square of normalised states from 1; 8 bits move it by 0.01."""


def before_final_norm(target: PreTrainedModel, states: torch.Tensor) -> torch.Tensor:
    """The last hidden states (length, width) of a text as the target's final norm reads them.

    vLLM's extraction keeps them so; SpecForge and ModelOpt's script for transformers keep what the
    norm has made of them, x / rms(x) * weight. Divided by the weight such states have a mean square
    of 1 at every token, and the norm makes the same of x / rms(x) as of x. Other states are
    returned as they are.
    """
    norm = getattr(target.get_decoder(), "norm", None)
    if norm is None:
        return states
    weight: torch.Tensor = norm(states.new_ones(states.shape[-1])).float()
    if not bool((weight != 0).all()):
        return states
    unit: torch.Tensor = states.float() / weight
    if bool(((unit.square().mean(-1) - 1).abs() > _OFF).any()):
        return states
    return unit.to(states)
