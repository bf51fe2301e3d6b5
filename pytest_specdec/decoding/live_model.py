"""A model in memory, in training for instance, as a drafter of replay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.checkpoint import Checkpoint
from .loading import LoadedModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel
    from transformers.modeling_layers import MtpModel

_NAME = Path("model in training")


def live_model(model: PreTrainedModel, heads: MtpModel | None = None) -> LoadedModel:
    """A causal language model in memory as one that was loaded: its weights, device and number
    format are used as they are.

    `heads` are its MTP layers. It has no files, so no fingerprint and no tokenizer.
    """
    checkpoint = Checkpoint(_NAME)
    checkpoint.__dict__["config"] = model.config.to_dict()
    loaded = LoadedModel(checkpoint, model)
    if heads is not None:
        loaded.__dict__["heads"] = heads
    return loaded


@contextlib.contextmanager
def evaluating(*modules: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, without dropout; afterwards every submodule is in the mode it was in."""
    modes = {part: part.training for module in modules for part in module.modules()}
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for part, training in modes.items():
            part.training = training
