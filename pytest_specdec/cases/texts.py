"""Texts Y: a prompt's tokens followed by tokens that the target emitted."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from .prompts import Prompt

LONGEST_LOOP = 16
"""Tokens of the longest repeated part that counts as a loop."""
_REPEATS = 0.9
"""Share of tokens that equal the one a loop before; sampled texts of the embedded pair stay below a
third.
"""
_LEAST = 16
"""New tokens in half a text from which on a loop can be told from a short echo."""


@dataclasses.dataclass(frozen=True)
class Text:
    """Token ids of one text; the first `prompt_length` are the prompt's."""

    key: str
    category: str
    ids: tuple[int, ...]
    prompt_length: int

    @property
    def first_draft(self) -> int:
        """Position of the first draft token: the prompt pass emits the first new token itself."""
        return self.prompt_length + 1

    @property
    def fingerprint(self) -> str:
        """Hash of the tokens, prompt included."""
        return hashlib.sha256(",".join(map(str, self.ids)).encode()).hexdigest()[:12]

    @property
    def loops(self) -> bool:
        """Whether the second half of the new tokens is one short part over and over, but for a slip
        here and there.
        """
        new = np.array(self.ids[self.prompt_length :])
        half = len(new) // 2
        if half < _LEAST:
            return False
        lags = range(1, min(LONGEST_LOOP, half) + 1)
        return any(float(np.mean(new[half:] == new[half - lag : -lag])) >= _REPEATS for lag in lags)


def texts_of_prompts(
    prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], new: Sequence[Sequence[int]]
) -> tuple[Text, ...]:
    """Texts of a prompt file: each prompt's tokens and the new ones behind them."""
    return tuple(
        Text(prompt.key, prompt.category, (*own, *more), len(own))
        for prompt, own, more in zip(prompts, ids, new, strict=True)
    )


def texts_from_ids(ids: Sequence[Sequence[int]], prompt_lengths: Sequence[int]) -> tuple[Text, ...]:
    """Texts without prompt files: keys are row numbers, there is one category."""
    return tuple(
        Text(str(row), "all", tuple(own), length)
        for row, (own, length) in enumerate(zip(ids, prompt_lengths, strict=True))
    )
