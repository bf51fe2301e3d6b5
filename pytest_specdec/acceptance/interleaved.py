"""Scores of the judged tokens alone, where a text interleaves them with given ones: audio tokens
among text tokens.

A new text runs in steps of `every` tokens, of which the last is judged. The given tokens of a step
are known before its judged one is drafted, so a round of k drafts spans k steps, a drafter's pass
starts right before a judged token, and its heads 0, every, 2 every ... draft those of the following
steps. What is left is a stream of judged tokens with heads of its own, and everything known of
plain texts holds for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases.case import JudgedRange
from ..cases.texts import Text
from ..common.errors import MeasurementError
from .scores import Scores

_LOST = 0.1
"""Largest share of judged tokens that may lie after breaks of the pattern."""


def judged_tokens(new: Sequence[int], judged: JudgedRange) -> list[int]:
    """The judged ones of a text's new tokens, up to the first step of another shape."""
    tokens: list[int] = []
    for begin in range(0, len(new) - judged.every + 1, judged.every):
        *given, last = new[begin : begin + judged.every]
        if last not in judged or any(token in judged for token in given):
            break
        tokens.append(last)
    return tokens


def judged_scores(
    scores: Scores, texts: Sequence[Text], judged: JudgedRange, *, own_heads: bool = False
) -> Scores:
    """The scores as those of texts that hold nothing but the judged new tokens; the prompt emits
    the first of them.

    `texts` are those that were scored. With `own_heads` a round starts at the target's last emitted
    token, one step before the first judged draft. Raises MeasurementError where too many texts
    leave the pattern.
    """
    counts = np.array(
        [len(judged_tokens(text.ids[text.prompt_length :], judged)) for text in texts]
    )
    _check_pattern(texts, counts, judged)
    first = judged.every - 1 if own_heads else 0
    longest = int(counts.max(initial=0))
    places = [
        text.prompt_length + judged.every - 1 + judged.every * np.arange(count)
        for text, count in zip(texts, counts.tolist(), strict=True)
    ]

    def judged_only(array: NDArray[Any]) -> NDArray[Any]:
        kept = np.zeros((len(texts), longest), dtype=array.dtype)
        for row, at in enumerate(places):
            kept[row, : len(at)] = array[row, at]
        return kept

    def judged_heads(array: NDArray[Any], undefined: float) -> NDArray[Any]:
        heads = array[:, first :: judged.every]
        kept = np.full((len(texts), heads.shape[1], longest), undefined, dtype=array.dtype)
        for row, at in enumerate(places):
            kept[row, :, : len(at)] = heads[row][:, at]
        return kept

    return dataclasses.replace(
        scores.replace_heads(judged_heads),
        target=judged_only(scores.target),
        source=None if scores.source is None else judged_only(scores.source),
        starts=np.ones_like(counts),
        lengths=counts,
        available=None,
    )


def _check_pattern(texts: Sequence[Text], counts: np.ndarray, judged: JudgedRange) -> None:
    whole = np.array([(len(text.ids) - text.prompt_length) // judged.every for text in texts])
    if (whole - counts).sum() > _LOST * whole.sum():
        row = int(np.argmax(whole - counts))
        raise MeasurementError(
            f"the texts do not consist of steps of {judged.every} tokens whose last one is in "
            f"{judged.first}:{judged.end}: the text of prompt {texts[row].key} leaves the pattern "
            f"after {counts[row]} steps; check --specdec-judged and that prompts end with a whole "
            "step"
        )
