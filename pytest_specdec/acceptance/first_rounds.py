"""First rounds as samples: one round from each prompt's own context, and how they spread."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .counts import Array
from .renewal import AcceptanceField


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (of a sample, n - 1) and extremes over samples; nan where they do
    not exist.
    """

    mean: float
    deviation: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Array) -> Spread:
        if not values.size:
            return cls(*[float("nan")] * 4)
        deviation = float(np.std(values, ddof=1)) if values.size > 1 else float("nan")
        return cls(float(values.mean()), deviation, float(values.min()), float(values.max()))


@dataclasses.dataclass(frozen=True)
class Samples:
    """One round a prompt, from its own context: `survival` (samples, k) is the chance that it
    accepts drafts 1..i.
    """

    prompts: tuple[str, ...]
    survival: Array
    drafted: Array
    """(samples,): tokens that the round drafts."""

    @classmethod
    def of(cls, field: AcceptanceField, k: int) -> Samples:
        """The first round of each text; those too short for a whole round give no sample."""
        rows = np.flatnonzero(field.starts + k <= field.lengths)
        starts = field.starts[rows]
        steps = starts[:, None] + np.arange(k)
        window = dataclasses.replace(
            field, accept=field.accept[rows[:, None], :, steps].swapaxes(1, 2)
        )
        drafted = (
            np.full(rows.shape, k)
            if field.available is None
            else np.minimum(field.available[rows, starts], k)
        )
        return cls(
            tuple(field.prompts[row] for row in rows),
            window.survival(drafted[:, None], k)[:, 0],
            drafted.astype(float),
        )

    @classmethod
    def together(cls, parts: Sequence[Samples]) -> Samples:
        """The samples of several runs."""
        prompts = tuple(prompt for part in parts for prompt in part.prompts)
        return cls(
            prompts,
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("survival", "drafted")
            ),
        )

    @property
    def accepted(self) -> Array:
        """(samples,): expected accepted tokens of each round, without the bonus token."""
        total: Array = self.survival.sum(axis=1)
        return total

    @property
    def rate(self) -> Array:
        """(samples,): expected accepted over drafted tokens; 0 where nothing is drafted."""
        share: Array = self.accepted / np.maximum(self.drafted, 1)
        return share

    def worst(self, most: int) -> list[tuple[str, float]]:
        """The prompts whose rounds accept least, with their expected accepted tokens, least
        first.
        """
        order = np.argsort(self.accepted, kind="stable")[:most]
        return [(self.prompts[at], float(self.accepted[at])) for at in order.tolist()]
