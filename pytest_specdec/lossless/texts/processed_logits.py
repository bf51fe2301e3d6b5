"""Teacher-forced logits after logits processors: each token's own prefix decides what they do."""

from __future__ import annotations

import dataclasses
from collections import Counter
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
    # Wrong histories have processors of their own: one that fails, or keeps a state, must not
    # change what the text's own history gives.
    rows, apart = (
        [processors.for_texts([text.ids[: text.prompt_length]]) for text in texts] for _ in range(2)
    )
    ids, wrong = [torch.tensor([text.ids]) for text in texts], histories()
    for part in parts:
        logits, drafted = torch.empty_like(part.logits, dtype=torch.float32), part.draft_logits
        others, failed = {UNPROCESSED: part.logits}, Counter[str]()
        if drafted is not None:
            drafted = drafted.float().clone()
        for index, at in enumerate(part.at.tolist()):
            row, position = places[at]
            prefix = ids[row].to(logits.device)
            one = slice(index, index + 1)
            raw = part.logits[None, one]
            logits[one] = rows[row].target(prefix, [position], raw)[0][0]
            if drafted is not None:
                drafted[one] = rows[row].draft(prefix, [position], drafted[None, one])[0]
            bets = {ONE_LATE: texts[row].ids[: position - 1]}
            if wrong is not None:
                bets |= wrong[row].before(position)
                if drafted is None and not wrong[row].drafts_known:
                    del bets[REJECTED]
            for name, before in bets.items():
                kept = others.setdefault(name, torch.empty_like(logits))
                kept[index], error = _after(apart[row], before, raw, logits[index])
                if error:
                    failed[error] += 1
            if wrong is not None and drafted is not None:
                wrong[row].draw(position, logits[index], drafted[index], sampling)
        yield dataclasses.replace(
            part, logits=logits, draft_logits=drafted, others=others, failed=failed
        )


def _after(
    processors: BatchProcessors, before: Sequence[int], raw: torch.Tensor, right: torch.Tensor
) -> tuple[torch.Tensor, str]:
    """Logits (vocabulary,) after the processors of a history that no text has, and the error of
    processors that cannot have one, such as masks by place: then the logits are the right ones, on
    which nothing is bet. Processors that fail after the text's own history have failed before.
    """
    try:
        ids = torch.tensor([before], dtype=torch.long, device=raw.device)
        return processors.target(ids, [len(before)], raw)[0][0, 0], ""
    except Exception as error:
        return right, f"{type(error).__name__}: {error}"
