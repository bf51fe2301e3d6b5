"""Slices that linear layers take without copying their matrix."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from pytest_specdec.decoding.strides import regular


@pytest.mark.parametrize("rows", [1, 3])
def test_a_linear_layer_multiplies_a_regular_slice_at_once(rows: int) -> None:
    layer, states = torch.nn.Linear(8, 16, bias=False), torch.randn(rows, 6, 8)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
        read = layer(regular(states[:, -2:]))
    assert "aten::bmm" not in {event.key for event in seen.key_averages()}
    torch.testing.assert_close(read, layer(states)[:, -2:])


def test_states_of_regular_strides_are_not_copied() -> None:
    states = torch.randn(2, 3, 4)
    assert regular(states).data_ptr() == states.data_ptr()
