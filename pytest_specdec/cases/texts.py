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
"""Share of tokens that equal the one a period earlier; sampled texts of the embedded pair stay
below a third.
"""
_LEAST = 16
"""Least new tokens in half a text; in fewer, a loop looks like a short repetition."""


@dataclasses.dataclass(frozen=True)
class Text:
    """Token ids of one text: a prompt and what the target emitted after it.

    Examples
    --------
    >>> from pytest_specdec import Text
    >>> text = Text(key="0", category="prose", ids=(5, 6, 7, 8), prompt_length=2)
    >>> text.first_draft
    3
    """

    key: str
    """Pairs the text with those of other runs: the prompt's hash, or a row number."""
    category: str
    """The prompt's category, for averages by category."""
    ids: tuple[int, ...]
    """Token ids, the prompt's first."""
    prompt_length: int
    """How many of them are the prompt's."""

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
        """Whether the second half of the new tokens repeats one short part, with few exceptions."""
        new = np.array(self.ids[self.prompt_length :])
        half = len(new) // 2
        if half < _LEAST:
            return False
        lags = range(1, min(LONGEST_LOOP, half) + 1)
        return any(float(np.mean(new[half:] == new[half - lag : -lag])) >= _REPEATS for lag in lags)


def texts_of_prompts(
    prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], new: Sequence[Sequence[int]]
) -> tuple[Text, ...]:
    """Texts of a prompt file: each prompt's tokens and the new ones after them."""
    return tuple(
        Text(prompt.key, prompt.category, (*prompt_ids, *new_ids), len(prompt_ids))
        for prompt, prompt_ids, new_ids in zip(prompts, ids, new, strict=True)
    )


def texts_from_ids(ids: Sequence[Sequence[int]], prompt_lengths: Sequence[int]) -> tuple[Text, ...]:
    """Texts of any origin as token ids; keys are row numbers, and all are of one category.

    Parameters
    ----------
    ids
        Token ids of each text, its prompt included.
    prompt_lengths
        How many of each text's ids are its prompt's.

    Returns
    -------
    tuple of Text

    Raises
    ------
    ValueError
        For more texts than lengths, or fewer.

    Examples
    --------
    >>> from pytest_specdec import texts_from_ids
    >>> [(text.key, text.first_draft) for text in texts_from_ids([[5, 6, 7, 8], [5, 9, 1]], [2, 1])]
    [('0', 3), ('1', 2)]
    """
    return tuple(
        Text(str(row), "all", tuple(text_ids), length)
        for row, (text_ids, length) in enumerate(zip(ids, prompt_lengths, strict=True))
    )
