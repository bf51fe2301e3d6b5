"""Greedy texts beside those of a server of the same model without a drafter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..cases.prompts import Prompt
from .results import OutputResult, failed, passed, unchecked
from .ties import parted

if TYPE_CHECKING:
    from .text_server import TextServer

NAME = "texts"


def check_reference(
    server: TextServer, reference: TextServer, prompts: tuple[Prompt, ...], limit: int
) -> OutputResult:
    """Compare greedy texts; where two part at a numerical tie, the rest is another text."""
    ties = 0
    for row, prompt in enumerate(prompts):
        expected, found = reference.greedy(prompt, limit), server.greedy(prompt, limit)
        apart = parted(
            reference, prompt, expected.text, found.text, names=("without a drafter", "drafting")
        )
        if apart is None:
            if expected.finish != found.finish:
                return failed(
                    NAME,
                    f"prompt {row}: the same text ends by {found.finish!r}, and by "
                    f"{expected.finish!r} without a drafter",
                )
            continue
        if apart.tie is None:
            return unchecked(
                NAME, f"prompt {row} differs from the reference's text, and {apart.doubt}"
            )
        if not apart.tie:
            return failed(
                NAME,
                f"prompt {row} has another greedy text than without a drafter, and no tie explains "
                "it",
                apart.lines,
            )
        ties += 1
    tied = f", {ties} numerical ties" if ties else ""
    return passed(NAME, f"{len(prompts)} greedy texts are the reference's{tied}")
