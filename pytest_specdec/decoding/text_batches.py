"""Which texts pass through a model together: texts of like lengths, a few at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..cases.texts import Text


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


def padded(ids: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """(rows, longest): zeros after shorter texts, where causal models do not look."""
    longest = max(map(len, ids))
    rows = [[*row, *([0] * (longest - len(row)))] for row in ids]
    return torch.tensor(rows, device=device)
