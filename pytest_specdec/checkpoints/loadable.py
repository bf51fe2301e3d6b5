"""Checkpoints that transformers can load in this process: whole, and quantised by a method whose
package is installed.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from ..common.errors import RequestError
from .checkpoint import Checkpoint
from .config_checks import check_layers

_PACKAGES = {
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "gptq": "gptqmodel",
    "torchao": "torchao",
}
"""What pip installs for each `quant_method`; of others transformers itself says what is missing."""


def quantisation(checkpoint: Checkpoint) -> str | None:
    """The method by which a checkpoint's weights are quantised; None where they are not."""
    given: Any = checkpoint.config.get("quantization_config")
    if given is None:
        return None
    return str(given.get("quant_method", "an unnamed method")) if isinstance(given, dict) else "?"


def check_loadable(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that lacks layers, or whose weights are quantised by a method whose
    package is not installed. Raises RequestError.
    """
    check_layers(
        checkpoint.folder / "config.json", checkpoint.text_config, checkpoint.model_tensors
    )
    check_quantised(checkpoint)


def check_quantised(checkpoint: Checkpoint) -> None:
    """Refuse quantised weights whose package is not installed, or would fetch code from the model
    hub. Raises RequestError.
    """
    method = quantisation(checkpoint)
    package = None if method is None else _PACKAGES.get(method)
    if package is not None and not _installed(package):
        raise RequestError(
            f"the weights of {checkpoint.folder} are quantised with {method}, and {package} is "
            f"not installed; run: pip install {package}, or name a copy that is not quantised"
        )
    if package == "bitsandbytes" and _installed("kernels") and not _offline():
        raise RequestError(
            f"the weights of {checkpoint.folder} are quantised with bitsandbytes, which fetches "
            "code from the model hub where the package kernels is installed; set HF_HUB_OFFLINE=1, "
            "or uninstall kernels"
        )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package.replace("-", "_")) is not None


def _offline() -> bool:
    """Whether the hub's client is told to stay away from it."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
