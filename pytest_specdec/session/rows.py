"""Rows of the reports: made where a test runs, gathered on xdist's controller."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from ..config.options import ENGINE
from ..config.settings import Settings
from .attachments import attachments_of
from .build import Components
from .counts_gates import CountsGates
from .state import Outcome, cases_of

if TYPE_CHECKING:
    from ..cases.case import Case
    from ..report.row import ReportRow

_ROW, _GATE_ROW = "specdec_row", "specdec_gate_row"
"""Attributes of a test report; plain data, so they cross from xdist workers by themselves."""
_CANDIDATE = "specdec_candidate"
"""The same, of a row that is a candidate's."""
_AXES = "specdec_axes"
"""The same, of any other row."""


def rows_of(report: pytest.TestReport) -> list[ReportRow]:
    """The rows that travel with a test's report: of its case, and of its gate."""
    rows: list[ReportRow | None] = [getattr(report, name, None) for name in (_ROW, _GATE_ROW)]
    return [row for row in rows if row is not None]


class RowCollector:
    """One row for each measured case, the most severe of all its tests, and one for each gate on
    counts that a test hands over.
    """

    def __init__(
        self, settings: Settings, components: Components, gates: CountsGates, outcome: Outcome
    ) -> None:
        self._settings, self._components, self._gates = settings, components, gates
        self._outcome = outcome
        self._owners: dict[str, str] = {}
        """By the id of a gate's row: its test. Only the controller sees those of all workers."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        for case in cases_of([item]):
            row = self._row(case, report)
            if row is not None:
                from ..report.row import printable_row

                if report.when == "call" and self._settings.writes_html:
                    row["attachments"] = attachments_of(item, case, report)
                setattr(report, _ROW, printable_row(row))
                if case.candidate and row["rounds"] is not None:
                    setattr(report, _CANDIDATE, self._components.runner.candidate(case))
                elif row["rounds"] is not None:
                    setattr(report, _AXES, self._components.runner.axes(case))
        if (gate_row := self._gates.row(item.nodeid)) is not None:
            from ..report.row import printable_row

            setattr(report, _GATE_ROW, printable_row(gate_row))
        self._record_properties(item, report)
        return report

    def _record_properties(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Give the test the properties of its rows; a later phase replaces an earlier one."""
        rows = rows_of(report)
        if rows:
            from ..report.junit import properties

            found = [pair for row in rows for pair in properties(row)]
            names = {name for name, _ in found}
            kept = [pair for pair in item.user_properties if pair[0] not in names]
            item.user_properties[:] = [*kept, *found]
            report.user_properties = list(item.user_properties)

    def _row(self, case: Case, report: pytest.TestReport) -> ReportRow | None:
        """The case's row after a test: an error where its fixtures failed, None where it was not
        measured.
        """
        if report.when == "setup" and report.failed:
            from ..judging.report_rows import failed_row

            # The line of the error: the traceback before it is in pytest's own report.
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(report.longrepr if crash is None else crash.message)
            return failed_row(case, self._settings.value(ENGINE), reason)
        runner = self._components.runner_in_use
        skipped_candidate = report.when == "setup" and report.skipped and bool(case.candidate)
        if (
            (report.when == "call" or skipped_candidate)
            and runner is not None
            and runner.asked(case)
        ):
            return runner.row(case)
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        gate_row: ReportRow | None = getattr(report, _GATE_ROW, None)
        if gate_row is not None:
            owner = self._owners.setdefault(gate_row["id"].casefold(), report.nodeid)
            if owner != report.nodeid:  # each in a worker of its own
                self._outcome.problem = self._outcome.problem or (
                    f"{owner} and {report.nodeid} both call their gate {gate_row['id']}, and would "
                    "share a baseline; give one of them another name"
                )
        row: ReportRow | None = getattr(report, _ROW, None)
        for added in rows_of(report):
            self._add(added)
        candidate = getattr(report, _CANDIDATE, None)
        if row is not None and candidate is not None:
            self._outcome.candidates[row["id"]] = candidate
        axes = getattr(report, _AXES, None)
        if row is not None and axes is not None:
            self._outcome.axes[row["id"]] = axes

    def _add(self, row: ReportRow) -> None:
        from ..report.row import worse

        rows = self._outcome.rows
        rows[row["id"]] = worse(rows[row["id"]], row) if row["id"] in rows else row
