"""Logits processors: what changes a model's logits as a function of the tokens before them.

A logits processor is transformers' own interface, `processor(input_ids, scores) -> scores`, with
token ids (1, length) and logits (1, vocabulary). Penalties, biases, no-repeat n-grams, min-p and
the masks of grammars are logits processors. Each is applied to the logits of a token after the
prefix that the token really has: the prompt, all emitted tokens, and the drafts of the round before
it. So a rejected draft never counts, and an accepted one counts once, in decoding, in replay and
where texts are judged. Temperature, top-k and top-p come after the processors.

Speculative decoding stays lossless under any processor: verification compares p and q after the
same prefix, and p(x | prefix) is the target's distribution there, whatever the drafter's
(Leviathan et al., arXiv 2211.17192, proves it for distributions that depend on the prefix).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import MeasurementError, RequestError

Processor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From token ids (1, length) and logits (1, vocabulary) to logits (1, vocabulary). A processor that
needs to know where a text's prompt ends has a method `for_prompt(prompt_ids)`, which returns one
for that text, and is not called itself.
"""


class TextProcessors:
    """The processors of one text, in the order in which they are applied."""

    def __init__(self, processors: Iterable[Processor]) -> None:
        self._processors = tuple(processors)

    def __call__(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Logits (vocabulary,) of the token after ids (length,), in float32.

        Raises RequestError for a processor that returns anything but logits of the same shape.
        """
        scores = logits.float()[None].clone()
        for processor in self._processors:
            returned = processor(ids[None], scores)
            shape = getattr(returned, "shape", None)
            if shape != scores.shape or not bool((returned < torch.inf).all()):
                raise RequestError(
                    f"the logits processor {_name(processor)} returned "
                    f"{'NaN or inf' if shape == scores.shape else _shape(returned)} for scores "
                    f"{tuple(scores.shape)}; return scores of that shape, -inf where a token is "
                    "forbidden"
                )
            scores = returned.float()
        return scores[0]


@dataclasses.dataclass(frozen=True)
class Processors:
    """Logits processors of a call, for all of its texts."""

    processors: tuple[Processor, ...]
    on_drafts: bool = True
    """Whether the drafter's logits are processed like the target's. Where they are not, drafts may
    be tokens that the processors forbid, which verification rejects.
    """
    ends: frozenset[int] = frozenset()
    """Tokens that end a text by a grammar."""

    def for_text(self, prompt: Sequence[int]) -> TextProcessors:
        """The processors of a text with this prompt."""
        prompt = tuple(prompt)
        return TextProcessors(
            made(prompt) if (made := getattr(processor, "for_prompt", None)) else processor
            for processor in self.processors
        )

    def for_texts(self, prompts: Iterable[Sequence[int]]) -> BatchProcessors:
        """The processors of a batch of texts with these prompts."""
        return BatchProcessors([self.for_text(prompt) for prompt in prompts], self.on_drafts)


@dataclasses.dataclass
class BatchProcessors:
    """The processors of the rows of a batch."""

    rows: list[TextProcessors]
    on_drafts: bool = True

    def select(self, rows: Iterable[int]) -> None:
        """Keep some rows."""
        self.rows = [self.rows[row] for row in rows]

    def target(
        self,
        ids: torch.Tensor,
        firsts: Sequence[int] | NDArray[np.int64],
        logits: torch.Tensor,
        new: Sequence[tuple[int, int]] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A target's logits after the processors, and where these left no token (rows, positions).

        `logits` (rows, positions, vocabulary) are those of a row's tokens from its position
        `firsts` on. With `new` only tokens of a row's range of positions change: those of its
        prompt and of padding stay as they are, and so does a position where no token is left. `ids`
        (rows, length) hold the tokens before.
        """
        processed = logits.float().clone()
        dead = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
        for row, (processors, first) in enumerate(zip(self.rows, firsts, strict=True)):
            begin, end = (first, first + logits.shape[1]) if new is None else new[row]
            for column in range(max(begin - first, 0), min(end - first, logits.shape[1])):
                scores = processors(ids[row, : first + column], logits[row, column])
                if bool((scores > -torch.inf).any()):
                    processed[row, column] = scores
                else:
                    dead[row, column] = True
        return processed, dead

    def draft(
        self,
        ids: torch.Tensor,
        firsts: Sequence[int] | NDArray[np.int64],
        logits: torch.Tensor,
        new: Sequence[tuple[int, int]] | None = None,
    ) -> torch.Tensor:
        """A drafter's logits after the processors, see `target`. A drafter of whose tokens none is
        left drafts as without processors: whatever it proposes there is rejected.
        """
        if not self.on_drafts:
            return logits
        return self.target(ids, firsts, logits, new)[0]


def processors_of(
    source: object,
) -> Processors | None:
    """Processors as callers give them: one, a list of them, or `Processors`; None for none.

    Raises RequestError for anything else.
    """
    if source is None or isinstance(source, Processors):
        return source if source is None or source.processors else None
    given = tuple(source) if isinstance(source, Sequence) else (source,)
    for processor in given:
        if not (callable(processor) or hasattr(processor, "for_prompt")):
            raise RequestError(
                f"{processor!r} is no logits processor; pass functions of (input_ids, scores), as "
                "transformers' LogitsProcessor"
            )
    return Processors(given) if given else None


def check_alive(dead: torch.Tensor) -> None:
    """Raises MeasurementError where the processors left no token for one that is to be emitted."""
    if bool(dead.any()):
        raise MeasurementError(
            "the logits processors leave no token after a text; let them allow one everywhere, an "
            "end-of-sequence token for instance"
        )


def _name(processor: Any) -> str:
    return str(getattr(processor, "__name__", type(processor).__name__))


def _shape(returned: Any) -> str:
    shape = getattr(returned, "shape", None)
    return type(returned).__name__ if shape is None else f"scores {tuple(shape)}"
