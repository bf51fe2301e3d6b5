"""What is examined: a drafter's folder, with the readings that it allows and how to measure and
name them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

from .measure import ReadingScore
from .search import Readings

R = TypeVar("R", bound=Hashable)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineReading(Generic[R]):
    """How an engine or a trainer reads a folder where that is another way than ours."""

    who: str
    """The program and its versions: `SGLang before sgl-project/sglang#25454 (2026-05-16)`."""
    does: str
    """What it does, a sentence's predicate: `adds 1 to the ids of layers`."""
    words: str
    """What it reads, in a few words, or why it cannot read the folder."""
    reading: R | None
    """The same as a reading of the folder as it is; None where it cannot be measured."""


class Patient(Protocol[R]):
    """A drafter's folder beside its target."""

    @property
    def title(self) -> str:
        """What it is, with its folder."""

    @property
    def faults(self) -> Sequence[str]:
        """Why the loader refuses the folder, where it does."""

    @property
    def readings(self) -> Readings[R]:
        """Those that its tensors allow."""

    def measure(self, reading: R) -> ReadingScore:
        """Its acceptance on the texts."""

    def screen(self, reading: R) -> float:
        """How much of the first draft tokens it accepts on a few of the texts, which is quick."""

    def words(self, reading: R) -> str:
        """A reading in a few words, beside the written one."""

    def cures(self, reading: R) -> Sequence[str]:
        """What to correct so that loaders read the folder so: a field or a tensor each."""

    def engines(self, best: R) -> Sequence[EngineReading[R]]:
        """Who reads the folder in another way than loaders do once it is corrected so that they
        read it as `best`, which may be the written reading.
        """
