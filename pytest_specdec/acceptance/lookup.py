"""Prompt lookup: drafts copied from where the text's last tokens stood before.

Replay of it serves every drafter that proposes tokens and no probabilities (`DraftIndex`). The rule
is transformers' own (`prompt_lookup_num_tokens`): the longest n-gram of at most `NGRAM` tokens that
ends the text and occurs earlier with something after it; of several places the first. What followed
there is the draft.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..cases.texts import Text
from ..common.errors import MeasurementError

NGRAM = 2
"""Longest n-gram looked up, transformers' default."""


class DraftIndex(Protocol):
    """A growing text and what may follow it."""

    def extend(self, tokens: Sequence[int]) -> None:
        """Append emitted tokens."""

    def propose(self, k: int) -> list[int]:
        """At most k draft tokens after the text, perhaps none; they are certain, not drawn."""


class LookupIndex:
    """A growing text and where each of its n-grams first stood."""

    def __init__(self, tokens: Sequence[int] = (), ngram: int = NGRAM) -> None:
        self._tokens: list[int] = []
        self._ngram = ngram
        self._first: dict[tuple[int, ...], int] = {}
        """End of the first occurrence of each n-gram that something follows."""
        self.extend(tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Append emitted tokens."""
        for token in tokens:
            end = len(self._tokens)
            for size in range(1, min(self._ngram, end) + 1):
                self._first.setdefault(tuple(self._tokens[end - size :]), end)
            self._tokens.append(token)

    def propose(self, k: int) -> list[int]:
        """At most k draft tokens, fewer near the text's end, none without a match."""
        size = min(self._ngram, len(self._tokens) - 1)
        for length in range(size, 0, -1):
            end = self._first.get(tuple(self._tokens[-length:]))
            if end is not None:
                return self._tokens[end : end + k]
        return []


def lookup_matches(
    ids: Sequence[int], first: int, k: int, ngram: int = NGRAM
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Replay prompt lookup over a text, see `index_matches`."""
    return index_matches(LookupIndex(ids[:first], ngram), ids, first, k)


def index_matches(
    index: DraftIndex, ids: Sequence[int], first: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Replay an index that holds the first `first` tokens of a text over the rest of it.

    Returns the number of tokens proposed at each start, (length,), and which of them are the
    text's own, (k, length): `matches[i, t]` is whether draft step i of a round that starts at
    t - i proposed the token at t. Raises MeasurementError for more than k drafts.
    """
    available, proposed = index_proposals(index, ids, first, k)
    return available, proposed == np.asarray(ids)


def index_proposals(
    index: DraftIndex, ids: Sequence[int], first: int, k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `index_matches`, with the proposed tokens themselves, (k, length); -1 where there is
    none.
    """
    available = np.zeros(len(ids), dtype=np.int64)
    proposed = np.full((k, len(ids)), -1, dtype=np.int64)
    for start in range(first, len(ids)):
        drafts = index.propose(k)
        if len(drafts) > k:
            raise MeasurementError(
                f"a drafter proposed {len(drafts)} tokens where k is {k}; correct its propose(k)"
            )
        available[start] = len(drafts)
        for step, draft in enumerate(drafts[: len(ids) - start]):
            proposed[step, start + step] = draft
        index.extend(ids[start : start + 1])
    return available, proposed


class IndexDrafts(NamedTuple):
    """What an index of each text drafts on it, as scores hold it."""

    log_q: NDArray[np.float32]
    """(texts, steps, longest): 0 where a draft is the text's own token, -inf elsewhere."""
    available: NDArray[np.int64]
    """(texts, longest): number of tokens that are drafted at each start."""
    proposed: NDArray[np.int64]
    """(texts, steps, longest): the tokens that are drafted, -1 where there is none."""


def lookup_draft(texts: Sequence[Text], steps: int, longest: int) -> IndexDrafts:
    """What prompt lookup drafts on each text, see `index_draft`."""
    return index_draft(LookupIndex, texts, steps, longest)


def index_draft(
    new_index: Callable[[Sequence[int]], DraftIndex],
    texts: Sequence[Text],
    steps: int,
    longest: int,
) -> IndexDrafts:
    """What an index of each text drafts on it."""
    draft = np.full((len(texts), steps, longest), -np.inf, dtype=np.float32)
    available = np.zeros((len(texts), longest), dtype=np.int64)
    tokens = np.full((len(texts), steps, longest), -1, dtype=np.int64)
    for row, text in enumerate(texts):
        index = new_index(text.ids[: text.first_draft])
        length = len(text.ids)
        available[row, :length], tokens[row, :, :length] = index_proposals(
            index, text.ids, text.first_draft, steps
        )
        draft[row, :, :length] = np.where(tokens[row, :, :length] == text.ids, 0.0, -np.inf)
    return IndexDrafts(log_q=draft, available=available, proposed=tokens)
