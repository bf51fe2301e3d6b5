"""Rounds as a decoder reports them, and their counts by this project's definition."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..cases.texts import Text
from .counts import Counts


class Round(NamedTuple):
    """One verification by the target."""

    start: int
    """Position of the first draft token."""
    drafted: int
    accepted: int


def counts_of_rounds(texts: Sequence[Text], rounds: Sequence[Sequence[Round]], k: int) -> Counts:
    """Count the rounds whose k draft positions all lie inside their text (definition
    acceptance/1).
    """
    steps = np.arange(k)
    totals = np.zeros(len(texts))
    drafted, accepted = np.zeros((len(texts), k)), np.zeros((len(texts), k))
    for row, (text, text_rounds) in enumerate(zip(texts, rounds, strict=True)):
        for round_ in text_rounds:
            if round_.start + k <= len(text.ids):
                totals[row] += 1
                drafted[row] += steps < round_.drafted
                accepted[row] += steps < round_.accepted
    return Counts(
        tuple(text.key for text in texts),
        tuple(text.category for text in texts),
        totals,
        drafted,
        accepted,
    )


def with_passes(counts: Counts, texts: Sequence[Text], rounds: Sequence[Sequence[Round]]) -> Counts:
    """The counts, with what whole texts took: every round is a pass of the target, those without
    drafts included.

    Rounds start after the first new token, which the prompt pass emits. An engine that leaves out
    rounds without drafts shows them by their positions: each of those emits one token.
    """
    emitted = np.array(
        [max(0, len(text.ids) - text.prompt_length - 1) for text in texts], dtype=np.float64
    )
    pairs = zip(texts, rounds, strict=True)
    reported = [
        sum(min(round_.accepted + 1, len(text.ids) - round_.start) for round_ in text_rounds)
        for text, text_rounds in pairs
    ]
    passes = (
        np.array([len(text_rounds) for text_rounds in rounds], dtype=np.float64)
        + emitted
        - np.array(reported, dtype=np.float64)
    )
    return dataclasses.replace(counts, emitted=emitted, passes=passes)
