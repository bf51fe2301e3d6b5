"""Suffix decoding: copies of what followed the text's end most often, in the text and in the
answers before it.

`acceptance.suffix` has the rules. The answers before a text are those of the prompts before it, in
the order of the prompt file, each ended before the next begins: replay takes the texts in that
order, decode decodes them one by one. An engine that serves requests together has others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...acceptance.lookup import index_proposals
from ...acceptance.suffix import SuffixCache, SuffixIndex, SuffixSettings
from ...cases.texts import Text
from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.suffix_config import read_suffix_settings
from ...common.errors import RequestError
from ..loading import LoadedModel
from .one_hot import OneHotDrafter, OneHotProposer, certain_scores
from .protocol import DecodingStart, DraftScores, TextBatch

_Proposals = tuple[NDArray[np.int64], NDArray[np.int64]]


whole_blocks = True
"""The best drafts of k tokens do not begin with the best ones of fewer."""


def check(target: Checkpoint, folder: Path | None, depth: int) -> None:
    if depth:
        raise RequestError(f"depth {depth}: suffix decoding has no MTP layers; use depth 0")
    read_suffix_settings(folder)


def load(target: LoadedModel, folder: Path | None, depth: int) -> SuffixDrafter:
    return SuffixDrafter(read_suffix_settings(folder))


class SuffixDrafter(OneHotDrafter):
    """Drafts of texts in their order."""

    whole_blocks = True

    def __init__(self, settings: SuffixSettings) -> None:
        super().__init__(self._request, settings.name)
        self.settings = settings
        self.in_order = settings.cached != 0
        self.begin(())

    def begin(self, texts: Sequence[Text]) -> None:
        self._cache, self._texts = SuffixCache(self.settings), texts
        self._proposals: dict[int, dict[int, _Proposals]] = {}
        """By k and text."""

    def proposer(self, start: DecodingStart) -> OneHotProposer:
        indexes = [_WholeDrafts(self._request(text), start.k) for text in start.texts]
        return OneHotProposer(indexes, start.vocabulary)

    def _request(self, tokens: Sequence[int]) -> SuffixIndex:
        """The index of a text whose last token is the first that was emitted."""
        return self._cache.request(tokens[:-1], tokens[-1:])

    def score(self, batch: TextBatch) -> DraftScores:
        if batch.steps not in self._proposals:
            self._proposals[batch.steps] = self._replayed(batch.steps)
        rows, length = batch.ids.shape
        available = np.zeros((rows, length), dtype=np.int64)
        proposed = np.full((rows, batch.steps, length), -1, dtype=np.int64)
        for row, text in enumerate(batch.texts):
            drafted, tokens = self._proposals[batch.steps][id(text)]
            available[row, : len(text.ids)] = drafted
            proposed[row, :, : len(text.ids)] = tokens
        return certain_scores(available, proposed, batch)

    def _replayed(self, k: int) -> dict[int, _Proposals]:
        """What is drafted at every position of every text, the texts in their order."""
        self._cache, proposals = SuffixCache(self.settings), {}
        for text in self._texts:
            index = self._request(text.ids[: text.first_draft])
            proposals[id(text)] = index_proposals(index, text.ids, text.first_draft, k)
        return proposals


class _WholeDrafts:
    """An index that is asked for k drafts also where fewer fit into the text, as engines ask: the
    best drafts of fewer tokens may be others.
    """

    def __init__(self, index: SuffixIndex, k: int) -> None:
        self._index, self._k = index, k

    def extend(self, tokens: Sequence[int]) -> None:
        self._index.extend(tokens)

    def propose(self, k: int) -> list[int]:
        return self._index.propose(self._k)[:k]
