"""What the terminal shows of a session: the header, the number of gates, and the closing table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from ..common.display import short
from ..common.percent import percent
from ..common.printable import printable
from ..config.options import ALPHA, BASELINES_PER, DEPTH, DEVICE, DTYPE, ENGINE, UPDATE, K
from ..config.settings import Settings
from .build import Components
from .state import Outcome, SessionCases

if TYPE_CHECKING:
    from ..cases.case import Case

_COLOURS = {
    "regressed": "red",
    "error": "red",
    "inconclusive": "yellow",
    "improved": "green",
    "new": "cyan",
    "updated": "cyan",
}
"""Of a line, by its last word."""


class TerminalSummary:
    """Writes on the controller's terminal; workers have none."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        cases: SessionCases,
        components: Components,
        outcome: Outcome,
    ) -> None:
        self._config, self._settings, self._components = config, settings, components
        self._cases, self._outcome = cases, outcome

    def pytest_report_header(self) -> str | None:
        settings = self._settings
        if not settings.active:
            return None
        parts = []
        for option in (K, DEPTH):
            given = settings.given(option)
            if given is not None:
                parts.append(f"{option.name}={option.parser.show(given.value)}")
        parts += [
            f"{settings.value(ENGINE)} on {settings.value(DEVICE)}",
            settings.value(DTYPE),
            f"baselines in {short(settings.baselines)}"
            + (" per device and dtype" if settings.value(BASELINES_PER) == "device" else ""),
        ]
        if update := settings.value(UPDATE):
            parts.append(f"updating {update}")
        return printable(f"specdec: {', '.join(parts)}")

    def pytest_report_collectionfinish(self) -> list[str] | None:
        cases, handed_over = self._cases.selected, len(self._cases.counts_tests)
        if not cases and not handed_over:
            return None
        lines = _candidate_lines(cases)
        cases = [case for case in cases if not case.candidate]
        pairs = len({(case.target, case.drafter) for case in cases})
        words = [f"{_gates(len(cases))} on {pairs} pair{'s' * (pairs > 1)} of models"] * bool(cases)
        words += [f"{_gates(handed_over)} on counts that tests hand over"] * bool(handed_over)
        if not words:
            return lines
        lines += [
            f"specdec: {' and '.join(words)}, false alarms at most "
            f"{percent(self._settings.value(ALPHA))} in all"
        ]
        missing = sum(
            not self._components.store.has_record(case) for case in self._cases.awaiting_baseline
        )
        if missing and self._settings.value(UPDATE) is None:
            have, they = ("has", "it") if missing == 1 else ("have", "they")
            lines.append(
                f"specdec: {missing} of {len(cases)} cases {have} no baseline: {they} will be "
                f"measured and fail; {UPDATE.flag}=new creates baselines (tests must compare by ==)"
            )
        return lines

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        rows, notes = self._outcome.rows, self._outcome.notes
        if self._outcome.problem is not None:
            terminalreporter.write_line(printable(f"ERROR: {self._outcome.problem}"), red=True)
        if not rows and not notes:
            return
        from ..report.axes import axis_tables
        from ..report.bars import bars
        from ..report.candidates import candidate_tables
        from ..report.position_table import position_tables
        from ..report.table import tables

        terminalreporter.section("speculative decoding")
        wide = self._config.option.verbose > 0
        for line in (
            *tables(rows.values(), wide=wide),
            *bars(rows.values()),
            *candidate_tables(rows.values()),
            *axis_tables(rows.values()),
            *(position_tables(rows.values()) if wide else ()),
        ):
            colour = next(
                (colour for word, colour in _COLOURS.items() if line.endswith(word)), None
            )
            terminalreporter.write_line(line, **({colour: True} if colour else {}))
        for note in notes:
            terminalreporter.write_line(printable(note))


def _gates(number: int) -> str:
    return f"{number} gate{'s' * (number > 1)}"


def _candidate_lines(cases: Iterable[Case]) -> list[str]:
    """One line where candidates are compared."""
    names = list(dict.fromkeys(case.candidate for case in cases if case.candidate))
    if not names:
        return []
    listed = ", ".join(names if len(names) <= 4 else [*names[:2], "...", names[-1]])
    return [
        printable(
            f"specdec: {len(names)} candidates ({listed}), compared with each other on the same "
            "prompts, not with baselines"
        )
    ]
