"""The first place at which two texts, or two tool calls, differ, with what stands around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_AROUND = 24
"""Characters or tokens shown before the place, and after it."""


def first_difference(expected: Sequence[Any], found: Sequence[Any]) -> int | None:
    """Index of the first item that differs, or at which one of them ends; None where they are
    equal.
    """
    for at, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            return at
    return None if len(expected) == len(found) else min(len(expected), len(found))


def shown_around(text: str, at: int) -> str:
    """What stands around a place of a text, as Python writes it, with ⟦ before the place."""
    begin, end = max(at - _AROUND, 0), at + _AROUND
    before, after = repr(text[begin:at])[1:-1], repr(text[at:end])[1:-1]
    return f"{'...' * (begin > 0)}{before}⟦{after}{'...' * (end < len(text))}"


def context_lines(expected: str, found: str, *, names: tuple[str, str]) -> tuple[str, ...]:
    """Both texts around the first place at which they differ; empty where they are equal."""
    at = first_difference(expected, found)
    if at is None:
        return ()
    return tuple(
        f"{name}: {shown_around(text, at)}"
        for name, text in zip(names, (expected, found), strict=True)
    )


def token_lines(
    expected: Sequence[int], found: Sequence[int], *, names: tuple[str, str]
) -> tuple[str, ...]:
    """Token ids of both texts around the first place at which they differ."""
    at = first_difference(expected, found)
    if at is None:
        return ()
    begin, lines = max(at - 4, 0), []
    for name, ids in zip(names, (expected, found), strict=True):
        before = " ".join(map(str, ids[begin:at]))
        lines.append(f"{name}: {before} ⟦{' '.join(map(str, ids[at : at + 4])) or 'end'}")
    return tuple(lines)
