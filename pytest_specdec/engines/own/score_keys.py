"""Which cases of a drafter share its scores on a set of texts."""

from __future__ import annotations

from ...cases.case import Case
from ...cases.drafter import DrafterSpec
from ...cases.drafting import DraftSampling
from ...decoding.drafters.registry import drafts_whole_blocks

ScoresKey = tuple[DrafterSpec, int | None, DraftSampling, int | None]
"""Drafter, the depth where each depth needs scores of its own, how drafts are drawn, and the k
where each k does.
"""


def scores_key(case: Case) -> ScoresKey:
    """What cases that share scores have in common."""
    return (
        case.drafter,
        case.depth if case.draft_model is None else None,
        case.drafting,
        case.k if drafts_whole_blocks(case.drafter) else None,
    )


def block_notes(case: Case) -> tuple[str, ...]:
    """What a reader of a grid must know of a drafter whose k is no prefix of a larger k."""
    if not drafts_whole_blocks(case.drafter):
        return ()
    return (
        f"{case.suite}: {case.label} drafts all tokens of a round together, so k decides each of "
        "them: k=4 is no prefix of k=8, and every k of the grid is scored by itself",
    )
