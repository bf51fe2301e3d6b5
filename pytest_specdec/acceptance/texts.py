"""Texts Y: a prompt's tokens followed by tokens that the target emitted."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

LONGEST_LOOP = 16
"""Tokens of the longest repeated part that counts as a loop."""
_LEAST = 16
"""Tokens that a loop must cover: a text may well end in a short echo."""


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
        """Whether at least half of the new tokens, up to the end, are one short part over and over."""
        new = np.array(self.ids[self.prompt_length :])
        covered = 0
        for period in range(1, min(LONGEST_LOOP, len(new) // 3) + 1):
            differs = np.flatnonzero(new[period:] != new[:-period])
            repeated = len(new) - 1 - int(differs[-1]) - period if differs.size else len(new) - period
            if repeated >= 2 * period:
                covered = max(covered, repeated + period)
        return covered >= max(_LEAST, len(new) / 2)


def texts_from_ids(ids: Sequence[Sequence[int]], prompt_lengths: Sequence[int]) -> tuple[Text, ...]:
    """Texts without prompt files: keys are row numbers, there is one category."""
    return tuple(
        Text(str(row), "all", tuple(own), length) for row, (own, length) in enumerate(zip(ids, prompt_lengths, strict=True))
    )
