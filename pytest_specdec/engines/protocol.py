"""What an engine is to the rest: from a case to its counts, and no word about baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

from ..acceptance.case import Case
from ..acceptance.counts import Counts
from ..baselines.schema import Environment, Fingerprints, TextSet


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Counts of one case, with what they were measured on."""

    counts: Counts
    fingerprints: Fingerprints
    environment: Environment
    tokenizer: str
    template: str | None
    text_fingerprints: Mapping[str, str]
    """By prompt key."""
    texts: TextSet
    """The texts used, to be stored beside a new baseline."""


class Engine(Protocol):
    """A way to measure acceptance."""

    @property
    def name(self) -> str:
        """The engine's name on the command line; stored in every baseline."""

    def measure(self, case: Case) -> Measurement:
        """Counts of one case. Raises SpecdecError where there is no usable record."""
