"""The ways through a random procedure: it is run again and again, each time along another path of
choices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from ...common.errors import SpecdecError

MOST_PATHS = 20_000
"""Paths of one call beyond which enumeration is given up."""


class NotEnumerableError(SpecdecError):
    """A random draw, or a use of one, that exact enumeration cannot follow."""


@dataclasses.dataclass(slots=True)
class _Fork:
    weights: list[float]
    open: list[int]
    """Outcomes still to be followed; the last of them is being followed now."""


class Paths:
    """Depth-first search by re-execution: `choose` answers from the current path, `all` moves on to
    the next.
    """

    def __init__(self) -> None:
        self.weight = 1.0
        """Probability of the current path so far."""
        self._forks: list[_Fork] = []
        self._step = 0

    def all(self) -> Iterator[None]:
        """Yields once for every path; the caller runs the whole procedure each time.

        Raises NotEnumerableError beyond MOST_PATHS, or if a path meets other choices when it is
        taken again.
        """
        self._forks = []
        for _ in range(MOST_PATHS):
            self._step, self.weight = 0, 1.0
            yield
            if self._step != len(self._forks):
                raise NotEnumerableError(UNSTEADY)
            while self._forks:
                self._forks[-1].open.pop()
                if self._forks[-1].open:
                    break
                self._forks.pop()
            else:
                return
        raise NotEnumerableError(
            f"one call has more than {MOST_PATHS} execution paths; lower vocab_size or k, or use "
            'method="sampled"'
        )

    def choose(self, weights: Sequence[float]) -> int:
        """An outcome's index; the weights are non-negative and sum to one."""
        if self._step == len(self._forks):
            outcomes = [index for index, weight in enumerate(weights) if weight > 0]
            self._forks.append(_Fork(list(weights), outcomes[::-1]))
        fork = self._forks[self._step]
        if fork.weights != list(weights):
            raise NotEnumerableError(UNSTEADY)
        self._step += 1
        outcome = fork.open[-1]
        self.weight *= fork.weights[outcome]
        return outcome


UNSTEADY = (
    "the sampler took another path although its draws were the same, so it keeps state between "
    "calls or draws from a source that is not intercepted; make it a function of its arguments, or "
    'use method="sampled"'
)
