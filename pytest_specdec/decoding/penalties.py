"""Penalties that transformers does not have: presence and frequency, as OpenAI and vLLM define
them.

    logit(x) - frequency * count(x) - presence * [count(x) > 0]

with the count of x among the tokens emitted so far, prompt excluded. A repetition penalty, in
contrast, divides positive logits of tokens in prompt or text by itself and multiplies negative ones
(Keskar et al., arXiv 1909.05858): transformers' RepetitionPenaltyLogitsProcessor, which is used as
it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


@dataclasses.dataclass(frozen=True)
class OutputPenalties:
    """Presence and frequency penalties of any text.

    Example: `decode(target, draft, prompts, k=4, processors=OutputPenalties(presence=0.5))`.
    """

    presence: float = 0.0
    """Taken from the logit of every token that the text has emitted."""
    frequency: float = 0.0
    """Taken from it once for every time."""

    def for_prompt(self, prompt: Sequence[int]) -> EmittedTokenPenalties:
        return EmittedTokenPenalties(len(prompt), self.presence, self.frequency)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Without a prompt."""
        return self.for_prompt(())(input_ids, scores)


class EmittedTokenPenalties(LogitsProcessor):  # type: ignore[misc]
    """Presence and frequency penalties of texts whose prompts have one length."""

    def __init__(self, prompt_length: int, presence: float, frequency: float) -> None:
        self._prompt_length, self._presence, self._frequency = prompt_length, presence, frequency

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, length) and (rows, vocabulary) to (rows, vocabulary)."""
        emitted = input_ids[:, self._prompt_length :]
        counts = torch.zeros_like(scores).scatter_add_(
            1, emitted, torch.ones_like(emitted, dtype=scores.dtype)
        )
        return scores - self._frequency * counts - self._presence * (counts > 0)
