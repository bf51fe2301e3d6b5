"""Where acceptance fell, token by token: which tokens, and after how much context."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ..acceptance.counts import Array


@dataclasses.dataclass(frozen=True)
class TokenChange:
    """One vocabulary item at all its positions: mean acceptance before and now."""

    token: int
    times: int
    before: float
    now: float

    @property
    def lost(self) -> float:
        """Accepted drafts lost, summed over its positions."""
        return self.times * (self.before - self.now)


@dataclasses.dataclass(frozen=True)
class TokenPositions:
    """Every position of the texts at which a draft is judged, flat: token, number of tokens before
    it, acceptance before and now.
    """

    tokens: Array
    contexts: Array
    before: Array
    now: Array

    @classmethod
    def of(
        cls,
        before: Mapping[str, Array],
        now: Mapping[str, Array],
        tokens: Mapping[str, Sequence[int]],
        starts: Mapping[str, int],
    ) -> TokenPositions:
        """Line up two measurements of the same texts; prompts whose lengths differ are left out."""
        shared = [
            key
            for key in now
            if key in before and before[key].shape == now[key].shape and now[key].size
        ]
        if not shared:
            return cls(*(np.empty(0) for _ in range(4)))
        return cls(
            np.concatenate([np.array(tokens[key][-now[key].size :]) for key in shared]),
            np.concatenate([starts[key] + np.arange(now[key].size) for key in shared]),
            np.concatenate([before[key] for key in shared]),
            np.concatenate([now[key] for key in shared]),
        )

    @classmethod
    def together(cls, parts: Sequence[TokenPositions]) -> TokenPositions:
        """The positions of several heads."""
        return cls(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in dataclasses.fields(cls)
            )
        )

    def worst_tokens(self, most: int = 3) -> list[TokenChange]:
        """The vocabulary items that lost most accepted drafts in total, worst first."""
        items, rows = np.unique(self.tokens, return_inverse=True)
        times = np.bincount(rows)
        before, now = (np.bincount(rows, weights=side) for side in (self.before, self.now))
        order = np.argsort(now - before)[:most].tolist()
        changes = [
            TokenChange(
                token=int(items[at]),
                times=int(times[at]),
                before=before[at] / times[at],
                now=now[at] / times[at],
            )
            for at in order
        ]
        return [change for change in changes if change.now < change.before]

    def contexts_changed(self) -> list[tuple[int, int, float]]:
        """(first, last, relative change) of the mean acceptance for contexts of up to 31 tokens, 32
        to 63, 64 to 127 ...
        """
        doubling = np.maximum(np.floor(np.log2(np.maximum(self.contexts, 1))), 4).astype(int)
        changes = []
        for power in np.unique(doubling).tolist():
            here = doubling == power
            whole = float(self.before[here].sum())
            if whole > 0:
                first, last = int(self.contexts[here].min()), int(self.contexts[here].max())
                changes.append((first, last, float(self.now[here].sum()) / whole - 1))
        return changes
