"""Two greedy texts of one model that part: a numerical tie, or a bug."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..cases.prompts import Prompt
from .differences import context_lines, first_difference

if TYPE_CHECKING:
    from .text_server import ServedText, TextServer

TIE = 0.5
"""Nats between the two likeliest tokens up to which either may be chosen: four steps of a bfloat16
logit between 16 and 32.
"""
UNSTEADY = "has two greedy texts in two equal requests; run on a server that nobody else uses"
_AGAIN = 8
"""How often a pair of requests is sent again before they are called two different ones."""
_BACK = 12
"""Characters before the first difference at which the differing token may begin."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartedTexts:
    """Two greedy texts that should be one."""

    tie: bool | None
    """Whether two tokens are about as likely where they part; None where the server does not
    say.
    """
    lines: tuple[str, ...]

    @property
    def doubt(self) -> str:
        """What to do where it is not known whether it is a tie."""
        return (
            "whether it is a tie cannot be told, since the server gives no log-probabilities after "
            "this prompt; serve them, or name the target's folder by --target"
        )


def parted(
    server: TextServer, prompt: Prompt, expected: str, found: str, *, names: tuple[str, str]
) -> PartedTexts | None:
    """Judge two greedy texts after a prompt; None where they are equal."""
    at = first_difference(expected, found)
    if at is None:
        return None
    lines = context_lines(expected, found, names=names)
    if prompt.text is None:
        return PartedTexts(tie=None, lines=lines)
    known = False
    for end in range(at, max(at - _BACK, -1), -1):
        two = server.likeliest(prompt.text + expected[:end])
        if len(two) == 2:
            known = True
            if two[0] - two[1] <= TIE:
                return PartedTexts(tie=True, lines=lines)
        if not known or (end and expected[end - 1].isspace()):
            break
    return PartedTexts(tie=False if known else None, lines=lines)


def unsteady(*asked: tuple[Callable[[], ServedText], ServedText]) -> bool:
    """Whether one of these greedy requests has another answer when it is sent again: then nothing
    follows from a difference between them.
    """
    return any(
        (again.text, again.calls) != (first.text, first.calls)
        for _ in range(_AGAIN)
        for ask, first in asked
        for again in (ask(),)
    )
