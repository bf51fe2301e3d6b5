"""How logits become a distribution."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How logits become a distribution: temperature, then top-k, then top-p, as transformers orders
    them.
    """

    temperature: float = 1.0
    """0 is greedy decoding."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest likeliest tokens whose probabilities reach top_p."""

    @property
    def suffix(self) -> str:
        """For file names, for example `t1-topk50`."""
        filters = [f"topk{self.top_k}"] * (self.top_k > 0) + [f"topp{self.top_p:g}"] * (
            self.top_p < 1
        )
        return "-".join([f"t{self.temperature:g}", *filters])
