"""What checks of an engine's output found, and what follows for the exit status."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from ..common.errors import RequestError


class CheckOutcome(enum.Enum):
    """How one check ended."""

    OK = "ok"
    FAILED = "failed"
    UNCHECKED = "not checked"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputResult:
    """What one check found."""

    name: str
    outcome: CheckOutcome
    words: str
    """What was compared, the first divergence, or why nothing was checked and what to do."""
    context: tuple[str, ...] = ()
    """Lines around the first divergence."""


def passed(name: str, words: str) -> OutputResult:
    return OutputResult(name=name, outcome=CheckOutcome.OK, words=words)


def failed(name: str, words: str, context: Sequence[str] = ()) -> OutputResult:
    return OutputResult(name=name, outcome=CheckOutcome.FAILED, words=words, context=tuple(context))


def unchecked(name: str, words: str) -> OutputResult:
    return OutputResult(name=name, outcome=CheckOutcome.UNCHECKED, words=words)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputReport:
    """All checks of one engine's output. Natural reading: `assert found.right, found.message`."""

    subject: str
    """Which engine, and what it was asked for."""
    results: tuple[OutputResult, ...]
    required: frozenset[str] = frozenset()
    """Checks that must be ok; of the others it is enough that none failed, and one was ok."""

    @property
    def failures(self) -> tuple[OutputResult, ...]:
        return self._of(CheckOutcome.FAILED)

    @property
    def missing(self) -> tuple[OutputResult, ...]:
        """Checks that were required and not made; all of them where none was made."""
        open_ = self._of(CheckOutcome.UNCHECKED)
        if not self._of(CheckOutcome.OK):
            return open_
        return tuple(result for result in open_ if result.name in self.required)

    @property
    def right(self) -> bool:
        """Whether no check failed, at least one was made, and every required one is ok."""
        return self.status == 0

    @property
    def status(self) -> int:
        """The exit status: 0 right, 1 a check failed, 3 too little was checked."""
        if self.failures:
            return 1
        return 3 if self.missing or not self.results else 0

    @property
    def verdict(self) -> str:
        """In a few words."""
        made = len(self._of(CheckOutcome.OK)) + len(self.failures)
        if self.failures:
            return f"{len(self.failures)} of {_checks(made)} failed"
        if self.status:
            names = ", ".join(result.name for result in self.missing) or "nothing"
            return f"too little was checked: {names}"
        return f"{_checks(made)} ok"

    @property
    def message(self) -> str:
        """One sentence: the first divergence, or what was not checked."""
        for result in (*self.failures, *self.missing):
            where = "; ".join(result.context)
            return f"{result.name}: {result.words}" + (f" ({where})" if where else "")
        return f"{self.verdict}; nothing to do"

    def check_required(self) -> None:
        """Raises RequestError for a required check that does not exist."""
        names = [result.name for result in self.results]
        if other := sorted(self.required - set(names)):
            raise RequestError(f"there is no check {other[0]!r}; choose among {', '.join(names)}")

    def _of(self, outcome: CheckOutcome) -> tuple[OutputResult, ...]:
        return tuple(result for result in self.results if result.outcome is outcome)


def _checks(count: int) -> str:
    return f"{count} check{'s' * (count != 1)}"
