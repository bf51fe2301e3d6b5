"""How logits become a distribution."""

from __future__ import annotations

import dataclasses
import math

from ..common.errors import RequestError


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

    def checked(self) -> Sampling:
        """These settings. Raises RequestError for numbers that make no distribution.

        >>> Sampling(0.7, top_p=0.9).checked().top_p
        0.9
        """
        numbers = (self.temperature, self.top_k, self.top_p)
        if not all(isinstance(number, int | float) for number in numbers) or not (
            0 <= self.temperature < math.inf and self.top_k >= 0 and 0 < self.top_p <= 1
        ):
            raise RequestError(
                f"temperature {self.temperature}, top_k {self.top_k} and top_p {self.top_p} are "
                "not valid sampling settings; temperature and top_k are at least 0, and top_p lies "
                "in (0, 1]"
            )
        return self

    @property
    def suffix(self) -> str:
        """For file names, for example `t1-topk50`."""
        filters = [f"topk{self.top_k}"] * (self.top_k > 0) + [f"topp{self.top_p:g}"] * (
            self.top_p < 1
        )
        return "-".join([f"t{self.temperature:g}", *filters])
