"""What a GGUF file is written of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf_form import read_weights
from safetensors.torch import save_file


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_read_as_float32_of_the_same_values(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = torch.tensor([[1.5, -0.75], [2.0**-9, 3.0]], dtype=dtype)
    save_file({"weight": weights}, tmp_path / "model.safetensors")
    (read,) = read_weights(tmp_path / "model.safetensors").values()
    assert read.dtype == np.float32
    assert read.tolist() == [[1.5, -0.75], [2.0**-9, 3.0]]
