"""JUnit files: each test's case is its system-out, whatever `junit_logging` says of prints."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from .rows import rows_of


class JUnitOutput:
    """Adds to the file that --junitxml writes, on the controller; properties come by themselves,
    as pytest's own `record_property`.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)  # pytest writes the failure first, as the format has it
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        rows = rows_of(report)
        ended = report.when == "call" or (report.when == "setup" and not report.passed)
        if not (rows and ended):
            return
        from _pytest.junitxml import bin_xml_escape, xml_key

        from ..report.junit import output

        junit = self._config.stash.get(xml_key, None)
        if junit is not None:
            element = ElementTree.Element("system-out")
            element.text = bin_xml_escape("\n".join(map(output, rows)))
            junit.node_reporter(report).append(element)
