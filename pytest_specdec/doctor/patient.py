"""What is examined: a drafter's folder, with the readings that it allows and how to measure and
name them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Protocol, TypeVar

from .measure import ReadingScore
from .search import Readings

R = TypeVar("R", bound=Hashable)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineReading:
    """How an engine or a trainer reads a folder where that is another way than ours."""

    who: str
    """The program and its versions: `SGLang before sgl-project/sglang#25454 (2026-05-16)`."""
    does: str
    """What it does, a sentence's predicate: `adds 1 to the ids of layers`."""


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

    def words(self, reading: R) -> str:
        """A reading in a few words, beside the written one."""

    def cures(self, reading: R) -> Sequence[str]:
        """What to correct so that loaders read the folder so: a field or a tensor each."""

    def engines(self) -> Sequence[tuple[EngineReading, R]]:
        """Who reads the folder in another way than written, and how."""
