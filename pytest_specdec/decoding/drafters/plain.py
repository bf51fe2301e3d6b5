"""No drafter: with k = 0 a round is a step of the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..ragged import Rows, Sequences
from .protocol import Proposal


class NoDrafts:
    """Plain decoding: a round is the target's step."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary

    def propose(self, sequences: Sequences, k: int, generator: torch.Generator | None) -> Proposal:
        rows, device = len(sequences.lengths), sequences.ids.device
        tokens = torch.zeros(rows, 0, dtype=torch.long, device=device)
        # One number in memory, because steps of plain decoding are timed.
        distributions = torch.zeros((), device=device).expand(rows, 1, self._vocabulary)
        return Proposal(tokens, distributions, np.zeros(rows, dtype=np.int64))

    def emitted(self, tokens: Sequence[Sequence[int]]) -> None:
        """Nothing depends on it."""

    def select(self, rows: Rows) -> None:
        """There is nothing to keep."""
