"""Rows of the reports: made where a test runs, gathered on xdist's controller."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from ..config.options import ENGINE
from ..config.settings import Settings
from .attachments import attachments_of
from .build import Components
from .state import Outcome, cases_of

if TYPE_CHECKING:
    from ..cases.case import Case
    from ..report.row import ReportRow

_ROW = "specdec_row"
"""Attribute of a test report; plain data, so it crosses from xdist workers by itself."""
_CANDIDATE = "specdec_candidate"
"""The same, of a row that is a candidate's."""


class RowCollector:
    """One row for each measured case, the most severe of all its tests."""

    def __init__(self, settings: Settings, components: Components, outcome: Outcome) -> None:
        self._settings, self._components, self._outcome = settings, components, outcome

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        for case in cases_of([item]):
            row = self._row(case, report)
            if row is not None:
                from ..report.row import printable_row

                if report.when == "call":
                    row["attachments"] = attachments_of(item, case, report)
                setattr(report, _ROW, printable_row(row))
                if case.candidate and row["rounds"] is not None:
                    setattr(report, _CANDIDATE, self._components.runner.candidate(case))
        return report

    def _row(self, case: Case, report: pytest.TestReport) -> ReportRow | None:
        """The case's row after a test: an error where its fixtures failed, None where it was not
        measured.
        """
        if report.when == "setup" and report.failed:
            from ..judging.report_rows import failed_row

            return failed_row(case, self._settings.value(ENGINE), str(report.longrepr))
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
        row: ReportRow | None = getattr(report, _ROW, None)
        if row is None:
            return
        from ..report.row import worse

        rows = self._outcome.rows
        rows[row["id"]] = worse(rows[row["id"]], row) if row["id"] in rows else row
        if (candidate := getattr(report, _CANDIDATE, None)) is not None:
            self._outcome.candidates[row["id"]] = candidate
