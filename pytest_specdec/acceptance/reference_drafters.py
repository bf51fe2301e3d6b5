"""Drafters that know nothing of the target: what a real one must beat on the same texts.

*Uniform guesses* give every token of the vocabulary the same probability. *Unigrams* give each
token its share among the new tokens of all other texts. *Prompt lookup* copies from the text
itself.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ..cases.case import JudgedRange
from ..cases.texts import Text
from .counts import Counts
from .interleaved import judged_tokens
from .lookup import lookup_draft
from .renewal import expected_counts
from .scores import Scores


@dataclasses.dataclass(frozen=True)
class References:
    """Expected counts of the reference drafters, by the rule and k of a case."""

    uniform: Counts
    unigrams: Counts
    lookup: Counts | None
    """None where only some tokens are judged: lookup copies all."""


def reference_counts(
    scores: Scores,
    texts: Sequence[Text],
    *,
    vocabulary: int,
    k: int,
    rule: str,
    judged: JudgedRange | None = None,
) -> References:
    """What the reference drafters would have had accepted on texts whose target log-probabilities
    are in `scores`.

    `scores` are those of the judged tokens alone where `judged` is given; `vocabulary` is the
    number of tokens of the target, or of the judged ones.
    """
    tokens = [
        text.ids if judged is None else judged_tokens(text.ids[text.prompt_length :], judged)
        for text in texts
    ]
    size = vocabulary if judged is None else judged.end - judged.first
    uniform = np.full((len(texts), 1, scores.target.shape[1]), -math.log(size), dtype=np.float32)
    unigrams = _unigrams(tokens, scores, greedy=rule == "greedy")
    lookup = None
    if judged is None:
        draft, available, _ = lookup_draft(texts, k, scores.target.shape[1])
        lookup = expected_counts(
            dataclasses.replace(scores, draft=draft, available=available).field(rule), k
        )
    return References(
        uniform=_counts(scores, uniform, k, rule),
        unigrams=_counts(scores, unigrams, k, rule),
        lookup=lookup,
    )


def _counts(scores: Scores, draft: np.ndarray, k: int, rule: str) -> Counts:
    return expected_counts(dataclasses.replace(scores, draft=draft, available=None).field(rule), k)


def _unigrams(tokens: Sequence[Sequence[int]], scores: Scores, *, greedy: bool) -> np.ndarray:
    """(texts, 1, longest): log-probability of each token by its share among the new tokens of all
    other texts.
    """
    starts = scores.starts.tolist()
    new = [ids[start:] for ids, start in zip(tokens, starts, strict=True)]
    everywhere = collections.Counter(token for ids in new for token in ids)
    draft = np.full((len(tokens), 1, scores.target.shape[1]), -np.inf, dtype=np.float32)
    for row, (ids, start) in enumerate(zip(new, starts, strict=True)):
        others = everywhere - collections.Counter(ids)
        if not others:
            continue
        total, likeliest = others.total(), max(others, key=lambda token: (others[token], -token))
        for at, token in enumerate(ids, start):
            if greedy:
                draft[row, 0, at] = 0.0 if token == likeliest else -np.inf
            elif others[token]:
                draft[row, 0, at] = math.log(others[token] / total)
    return draft
