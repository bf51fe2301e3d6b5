"""The baselines that a record replaced, and how far acceptance is below the best of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from ..common.percent import percent

MOST_REPLACED = 50
"""Baselines that a record remembers; the oldest are forgotten first."""
_NOTABLE = 1e-3
"""Relative drop below which erosion is not worth a line: half precision rounds by as much."""
_COMMIT_DIGITS = 9
"""Of a commit, as messages name it."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
CommitHash = Annotated[str, Meta(pattern="^([0-9a-f]{40}|[0-9a-f]{64})$")]


class ReplacedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A baseline that was replaced: enough to see how far acceptance has eroded over several
    updates.
    """

    acceptance_length: Annotated[float, Meta(ge=1)]
    prompts: Digest
    """Of the keys of its prompts."""
    texts: Digest | None = None
    """Of its texts; None where their tokens are not known."""
    smoothed_length: Annotated[float, Meta(ge=1)] | None = None
    """Of its smoothed counts, see `Record.smoothing`; None without any."""
    commit: CommitHash | None = None
    """HEAD of the baselines' git repository when the baseline was replaced; None without one."""

    @property
    def lengths(self) -> tuple[float, ...]:
        """The acceptance length and, where it is known, the smoothed one."""
        known = (self.acceptance_length, self.smoothed_length)
        return tuple(length for length in known if length is not None)

    def describe(self) -> str:
        """`3.6300 at commit 1a2b3c4d5`."""
        return f"{self.acceptance_length:.4f}{_at(self.commit)}"


ReplacedRecords = Annotated[tuple[ReplacedRecord, ...], Meta(max_length=MOST_REPLACED)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Erosion:
    """How far an acceptance length is below the best of the last baselines."""

    drop: float
    """Relative; negative above the best."""
    best: float
    """Acceptance length of the best; a smoothed one where that is compared."""
    commit: str | None
    """At which the best was the baseline; None for the current one, and where it is not known."""
    current: bool
    """Whether the current baseline is the best."""
    baselines: int
    """How many were compared: the current one, and those before it on the same prompts."""
    same_texts: bool
    """Whether the best was measured on the same texts, so that chance has no part in the drop."""
    smoothed: bool = False
    """Whether smoothed lengths were compared."""

    @property
    def notable(self) -> bool:
        """Whether it says more than the comparison with the current baseline does."""
        return not self.current and self.drop >= _NOTABLE

    def reaches(self, limit: float | None) -> bool:
        """Whether the drop is as large as a limit; never without one."""
        return limit is not None and self.drop >= limit

    def describe(self) -> str:
        """`4.70 % below the best of the last 13 baselines (length 3.6300 at commit 1a2b3c4d5)`."""
        among = f"best of the last {self.baselines} baselines" if self.baselines > 1 else "baseline"
        texts = "" if self.same_texts else ", on other texts"
        kind = "smoothed length" if self.smoothed else "length"
        length = f"{kind} {self.best:.4f}{_at(self.commit)}{texts}"
        return f"{percent(self.drop)} below the {among} ({length})"


def _at(commit: str | None) -> str:
    return "" if commit is None else f" at commit {commit[:_COMMIT_DIGITS]}"


def digest(values: Iterable[tuple[str, ...]]) -> str:
    """Hash of prompts or texts, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(values)).encode()).hexdigest()[:16]


def history_after(
    history: Sequence[ReplacedRecord], replaced: ReplacedRecord
) -> tuple[ReplacedRecord, ...]:
    """The baselines before a record, after one more of them was replaced.

    Of several updates at one commit only the first counts: what the others replaced was never
    committed.
    """
    if history and replaced.commit is not None and history[-1].commit == replaced.commit:
        return tuple(history)
    return (*history, replaced)[-MOST_REPLACED:]
