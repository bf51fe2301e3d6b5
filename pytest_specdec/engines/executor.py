"""Work that can be divided: units whose results do not depend on where, when or beside which others
they are computed. A session computes them here, one after the other (`LocalExecutor`), or has them
computed by other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from ..common.errors import SpecdecError
from .models import ModelPool


class SharedOutError(SpecdecError):
    """This process did its share of a piece of work; the other results are elsewhere."""


ResultT = TypeVar("ResultT")
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Work(Protocol[ResultT_co]):
    """Units of one kind, described by plain data: it can be sent to another process, which opens it
    with models of its own.
    """

    @property
    def name(self) -> str:
        """Tells it from all other work of a session; equal in every process of a divided one."""

    @property
    def label(self) -> str:
        """What progress bars call it."""

    @property
    def sizes(self) -> Sequence[int]:
        """Of each unit: how many texts it is for, as progress counts them."""

    @property
    def everywhere(self) -> bool:
        """Whether every process of a divided session needs the results, and computes them."""

    @property
    def result(self) -> type[ResultT_co]:
        """The type of a unit's result."""

    def opened(self, models: ModelPool, units: Sequence[int]) -> Callable[[int], ResultT_co]:
        """Loads what it needs; returns what computes a unit, each of these once and in order.
        Raises SpecdecError.
        """


class Executor(Protocol):
    """Where work is done."""

    def results(self, work: Work[ResultT]) -> Iterator[tuple[int, ResultT]]:
        """Every unit's number and result, in any order. Raises SpecdecError."""


class LocalExecutor:
    """All units here, one after the other."""

    def __init__(self, models: ModelPool) -> None:
        self._models = models

    def results(self, work: Work[ResultT]) -> Iterator[tuple[int, ResultT]]:
        """In order."""
        yield from self.chosen(work, range(len(work.sizes)))

    def chosen(self, work: Work[ResultT], units: Sequence[int]) -> Iterator[tuple[int, ResultT]]:
        """Some units, in order."""
        compute = work.opened(self._models, units)
        progress = WorkProgress(self._models, work, sum(work.sizes[unit] for unit in units))
        for unit in units:
            yield unit, compute(unit)
            progress.add(work.sizes[unit])


class WorkProgress:
    """A piece of work's progress bar."""

    def __init__(self, models: ModelPool, work: Work[Any], total: int) -> None:
        self._models, self._label, self._total, self._done = models, work.label, total, 0
        self.add(0)

    def add(self, texts: int) -> None:
        """So many texts more are done."""
        self._done += texts
        if self._total:
            self._models.report(self._label, self._done, self._total)
