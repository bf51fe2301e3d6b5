"""Masks that an engine recorded with its texts, as a logits processor.

A mask belongs to one place of one text. Replay and conformance only ask for the places of the texts
themselves, since all drafts of accepted prefixes are the text's own tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from ..common.errors import RequestError

Ranges = tuple[tuple[int, int], ...]
"""Allowed token ids: first and last of each range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedText:
    """One text with the mask of each of its new tokens, None where all are allowed."""

    prompt: tuple[int, ...]
    new_ids: tuple[int, ...]
    masks: tuple[Ranges | None, ...]


@dataclasses.dataclass(frozen=True)
class RecordedMasks:
    """The masks of texts, found by their prompts.

    Raises RequestError for two texts of one prompt that are not the same.

    Example: `replay(target, draft, texts, k=3, processors=RecordedMasks((masked, ...)))`.
    """

    texts: tuple[MaskedText, ...]

    def __post_init__(self) -> None:
        if len({text.prompt for text in self.texts}) < len(set(self.texts)):
            raise RequestError(
                "two texts of one prompt have masks of their own; judge them in two runs"
            )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Without a prompt nothing is masked."""
        return scores

    def for_prompt(self, prompt: Sequence[int]) -> _MasksOfText:
        wanted = tuple(prompt)
        found = next((text for text in self.texts if text.prompt == wanted), None)
        if found is None:
            raise RequestError(
                "a text has no recorded masks; record those of every text, `null` where all tokens "
                "are allowed"
            )
        return _MasksOfText(found)


class _MasksOfText(LogitsProcessor):  # type: ignore[misc]
    """The masks of one text, after its own prefixes."""

    def __init__(self, text: MaskedText) -> None:
        self._text = text

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(1, length) and (1, vocabulary) to (1, vocabulary)."""
        text = self._text
        step = input_ids.shape[1] - len(text.prompt)
        if not 0 <= step < len(text.masks) or text.masks[step] is None:
            return scores
        allowed = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
        for first, last in text.masks[step] or ():
            allowed[first : last + 1] = True
        return scores.masked_fill(~allowed, -torch.inf)
