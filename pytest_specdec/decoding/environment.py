"""Where the numbers of this process come from."""

from __future__ import annotations

import platform

import torch
import transformers

from ..records.conditions import Environment


def environment(device: torch.device, dtype: str) -> Environment:
    """Versions, device and threads; the instruction set counts, since it decides how sums are
    rounded.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{device.type} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return Environment(
        torch=str(torch.__version__),
        transformers=transformers.__version__,
        device=name,
        dtype=dtype,
        threads=torch.get_num_threads(),
    )
