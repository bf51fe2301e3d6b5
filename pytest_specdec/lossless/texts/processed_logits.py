"""Teacher-forced logits after logits processors: each token's own prefix decides what they do."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from ...cases.case import Sampling
from ...cases.texts import Text
from ...decoding.processors import BatchProcessors, Processors
from .histories import HISTORIES, REJECTED, RoundHistories
from .teacher_forcing import TeacherForced

UNPROCESSED = "logits processors that are left out"
ONE_LATE = "logits processors that lack the newest token"
"""What is wrong with engines whose texts bets are laid on."""
WRONG_ROWS = (UNPROCESSED, ONE_LATE, *HISTORIES)


def after_processors(
    parts: Iterable[TeacherForced],
    texts: Sequence[Text],
    places: Sequence[tuple[int, int]],
    processors: Processors | None,
    sampling: Sampling,
    histories: Callable[[], list[RoundHistories] | None] = lambda: None,
) -> Iterator[TeacherForced]:
    """The parts with the logits of target and drafter changed; `places` are the text and position
    of every new token, and `histories` makes what wrong engines take for the text before.
    """
    if processors is None:
        yield from parts
        return
    rows = [
        BatchProcessors([processors.for_text(text.ids[: text.prompt_length])], processors.on_drafts)
        for text in texts
    ]
    ids, wrong = [torch.tensor([text.ids]) for text in texts], histories()
    for part in parts:
        logits, drafted = torch.empty_like(part.logits, dtype=torch.float32), part.draft_logits
        late = torch.empty_like(logits)
        others = {UNPROCESSED: part.logits, ONE_LATE: late}
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
            if wrong is None:
                continue
            for name, before in wrong[row].before(position).items():
                if name != REJECTED or drafted is not None or wrong[row].drafts_known:
                    kept = others.setdefault(name, torch.empty_like(logits))
                    kept[index] = _after(rows[row], before, raw, logits[index])
            if drafted is not None:
                wrong[row].draw(position, logits[index], drafted[index], sampling)
        yield dataclasses.replace(part, logits=logits, draft_logits=drafted, others=others)


def _after(
    processors: BatchProcessors, before: Sequence[int], raw: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """Logits (vocabulary,) after the processors of a history that no text has. Some processors,
    such as recorded masks, cannot have one: then the right ones, on which nothing is bet.
    """
    try:
        return processors.target(torch.tensor([before], device=raw.device), [len(before)], raw)[0][
            0, 0
        ]
    except Exception:
        return right
