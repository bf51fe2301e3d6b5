"""What the parts of a session share: its cases, and what it has come to so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from ..cases.case import Case
    from ..judging.axes import MeasuredAxes
    from ..judging.candidates import MeasuredCandidate
    from ..report.row import ReportRow


@dataclasses.dataclass
class SessionCases:
    """The cases of the collected tests."""

    generated: list[Case] = dataclasses.field(default_factory=list)
    """All of them, those of deselected tests included."""
    selected: list[Case] = dataclasses.field(default_factory=list)
    """Those of the tests that will run, each once."""
    awaiting_baseline: set[Case] = dataclasses.field(default_factory=set)
    """Those of which a test asks for the baseline."""
    counts_tests: set[str] = dataclasses.field(default_factory=set)
    """Node ids of the tests that will run and hand counts to a gate of their own."""
    judges_texts: bool = False
    """Whether a test that will run asks for the conformance of texts."""
    batches: dict[Case, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """How many texts at once the checks of a case's output compare."""
    replaced_models: dict[Case, dict[str, str]] = dataclasses.field(default_factory=dict)
    """How the marker or ini file names a `target` or `drafter` that the command line replaces."""

    @property
    def share_of_cases(self) -> float:
        """The share of the session's false-alarm rate that its cases keep; each gate on counts that
        a test hands over has as much as one of them.
        """
        judged = sum(not case.candidate for case in self.selected)
        return judged / max(judged + len(self.counts_tests), 1)


@dataclasses.dataclass
class Outcome:
    """What the session has come to. On xdist's controller it grows with what workers send."""

    problem: str | None = None
    """Why the session ends with pytest's usage status."""
    rows: dict[str, ReportRow] = dataclasses.field(default_factory=dict)
    """Rows of the reports, by case id."""
    candidates: dict[str, MeasuredCandidate] = dataclasses.field(default_factory=dict)
    """What the rows of candidates are compared by, by case id."""
    axes: dict[str, MeasuredAxes] = dataclasses.field(default_factory=dict)
    """What other cases are compared by along axes, by case id."""
    files: dict[Path, str] = dataclasses.field(default_factory=dict)
    """Baseline files to be written."""
    stale: list[Path] = dataclasses.field(default_factory=list)
    """Stored files that no test needs."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """Lines after the table."""


def cases_of(items: Iterable[pytest.Item]) -> list[Case]:
    """The case of every test that has one."""
    cases = (
        item.callspec.params.get("specdec_case") for item in items if hasattr(item, "callspec")
    )
    return [case for case in cases if case is not None]
