"""Quantised weights are loaded by transformers where it knows their method."""

from __future__ import annotations

from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from ..checkpoints import loadable
from ..checkpoints.checkpoint import Checkpoint
from ..common.errors import RequestError


def check_loadable(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that lacks layers, or whose weights are quantised by a method whose
    package is not installed, or that transformers does not know: it would warn, and load them as
    if they were plain. Raises RequestError.
    """
    loadable.check_loadable(checkpoint)
    method = loadable.quantisation(checkpoint)
    if method is not None and method not in (*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"):
        raise RequestError(
            f"the weights of {checkpoint.folder} are quantised with {method}, which transformers "
            "does not know; name a copy that is not quantised"
        )
