"""What a computation costs, counted and not timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode


class LargestTensor(TorchFunctionMode):
    """Records how many numbers the largest tensor has that is computed."""

    numbers = 0

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def operations(call: Callable[[], object]) -> int:
    """Multiplications and additions of the matrix products that a call computes."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
