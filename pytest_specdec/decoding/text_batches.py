"""Which texts pass through a model together: texts of like lengths, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..cases.texts import Text

_LOGIT_BUDGET = {"cpu": 1 << 21, "cuda": 1 << 28}
"""Logits held at once, in numbers: 8 MiB in float32 on a CPU, about what its caches hold, 1 GiB on
a GPU.
"""


def tokens_together(device: str, vocabulary: int) -> int:
    """How many tokens pass through a model together, by the type of its device and the tokens that
    it has.
    """
    return _LOGIT_BUDGET.get(device, _LOGIT_BUDGET["cpu"]) // vocabulary


def by_length(texts: Sequence[Text]) -> list[int]:
    """The texts' numbers, so that texts of like lengths follow one another."""
    return sorted(
        range(len(texts)), key=lambda row: (len(texts[row].ids), texts[row].prompt_length)
    )


def batches(order: list[int], texts: Sequence[Text], tokens: int) -> list[list[int]]:
    """All rows of an order, batch by batch, see `next_batch`."""
    planned, done = [], 0
    while done < len(order):
        planned.append(next_batch(order[done:], texts, tokens))
        done += len(planned[-1])
    return planned


def next_batch(order: list[int], texts: Sequence[Text], tokens: int) -> list[int]:
    """The next rows, by length, that make at most so many tokens; at least one."""
    rows: list[int] = []
    for row in order:
        if rows and (len(rows) + 1) * len(texts[row].ids) > tokens:
            break
        rows.append(row)
    return rows


Contents = tuple[torch.Size, bytes]


def contents(ids: torch.Tensor) -> Contents:
    """What two batches of token ids have in common if they are equal, as a key."""
    return ids.shape, ids.cpu().numpy().tobytes()


def padded(ids: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """(rows, longest): zeros after shorter texts, where causal models do not look."""
    longest = max(map(len, ids))
    rows = [[*row, *([0] * (longest - len(row)))] for row in ids]
    return torch.tensor(rows, device=device)
