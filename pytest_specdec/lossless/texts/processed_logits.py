"""Teacher-forced logits after logits processors: each token's own prefix decides what they do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import torch

from ...cases.texts import Text
from ...decoding.processors import BatchProcessors, Processors
from .teacher_forcing import TeacherForced

UNPROCESSED = "logits processors that are left out"
ONE_LATE = "logits processors that lack the newest token"
"""What is wrong with engines whose texts bets are laid on."""


def after_processors(
    parts: Iterable[TeacherForced],
    texts: Sequence[Text],
    places: Sequence[tuple[int, int]],
    processors: Processors | None,
) -> Iterator[TeacherForced]:
    """The parts with the logits of target and drafter changed; `places` are the text and position
    of every new token.
    """
    if processors is None:
        yield from parts
        return
    rows = [
        BatchProcessors([processors.for_text(text.ids[: text.prompt_length])], processors.on_drafts)
        for text in texts
    ]
    ids = [torch.tensor([text.ids]) for text in texts]
    for part in parts:
        logits, drafted = torch.empty_like(part.logits, dtype=torch.float32), part.draft_logits
        late = torch.empty_like(logits)
        if drafted is not None:
            drafted = drafted.float().clone()
        for index, at in enumerate(part.at.tolist()):
            row, position = places[at]
            prefix = ids[row].to(logits.device)
            one = slice(index, index + 1)
            raw = part.logits[None, one]
            logits[one] = rows[row].target(prefix, [position], raw)[0][0]
            late[one] = rows[row].target(prefix, [position - 1], raw)[0][0]
            if drafted is not None:
                drafted[one] = rows[row].draft(prefix, [position], drafted[None, one])[0]
        yield dataclasses.replace(
            part,
            logits=logits,
            draft_logits=drafted,
            others={UNPROCESSED: part.logits, ONE_LATE: late},
        )
