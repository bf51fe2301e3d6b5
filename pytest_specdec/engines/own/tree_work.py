"""The replay of one case's trees of drafts, divided into units."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ...acceptance.trees.field import TreeField
from ...cases.case import Case
from ...cases.texts import Text
from ...decoding.trees.replay import field_of_texts
from ..models import ModelPool
from .replay_work import work_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeBatch:
    """What a case's trees accept of one batch of texts."""

    rows: tuple[int, ...]
    """The texts' numbers."""
    reach: NDArray[np.float64]
    """(rows, longest, depth), as `TreeField.reach`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TreeScoring:
    """Replays a case's trees on its texts, batch by batch."""

    case: Case
    texts: tuple[Text, ...]
    batches: tuple[tuple[int, ...], ...]
    """By `decoding.trees.replay.tree_batches`."""

    everywhere = False
    result = TreeBatch

    @property
    def name(self) -> str:
        texts = [f"{text.key} {text.fingerprint}" for text in self.texts]
        words = [self.case.id, self.case.rule, str(self.case.tree), str(self.batches), *texts]
        return work_name("tree", self.case.texts, words)

    @property
    def label(self) -> str:
        return f"{self.case.id}: replay of trees"

    @property
    def sizes(self) -> Sequence[int]:
        return [*map(len, self.batches)]

    def opened(self, models: ModelPool, units: Sequence[int]) -> Callable[[int], TreeBatch]:
        def replayed(unit: int) -> TreeBatch:
            rows = self.batches[unit]
            field = models.tree_field(self.case, [self.texts[row] for row in rows], quiet=True)
            return TreeBatch(rows=rows, reach=field.reach)

        return replayed

    def field(self, done: Iterable[tuple[int, TreeBatch]]) -> TreeField:
        """The field of all texts, from every unit's result in any order."""
        longest = max(len(text.ids) for text in self.texts)
        reach = np.zeros((len(self.texts), longest, self.case.k))
        for _, batch in done:
            reach[list(batch.rows), : batch.reach.shape[1]] = batch.reach
        return field_of_texts(reach, self.texts)
