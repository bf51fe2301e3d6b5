"""Rounds as a decoder reports them, and their counts by this project's definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .counts import Counts
from .texts import Text


class Round(NamedTuple):
    """One verification by the target."""

    start: int
    """Position of the first draft token."""
    drafted: int
    accepted: int


def counts_of_rounds(texts: Sequence[Text], rounds: Sequence[Sequence[Round]], k: int) -> Counts:
    """Count the rounds whose k draft positions all lie inside their text (definition acceptance/1)."""
    steps = np.arange(k)
    totals = np.zeros(len(texts))
    drafted, accepted = np.zeros((len(texts), k)), np.zeros((len(texts), k))
    for row, (text, own) in enumerate(zip(texts, rounds, strict=True)):
        for one in own:
            if one.start + k <= len(text.ids):
                totals[row] += 1
                drafted[row] += steps < one.drafted
                accepted[row] += steps < one.accepted
    return Counts(tuple(text.key for text in texts), tuple(text.category for text in texts), totals, drafted, accepted)
