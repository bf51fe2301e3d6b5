"""Texts Y: a prompt's tokens followed by tokens that the target emitted."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence


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


def texts_from_ids(ids: Sequence[Sequence[int]], prompt_lengths: Sequence[int]) -> tuple[Text, ...]:
    """Texts without prompt files: keys are row numbers, there is one category."""
    return tuple(
        Text(str(row), "all", tuple(own), length) for row, (own, length) in enumerate(zip(ids, prompt_lengths, strict=True))
    )
