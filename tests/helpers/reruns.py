"""A conftest.py that runs failed tests again, as pytest-rerunfailures does."""

from __future__ import annotations

RERUNS = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    from _pytest.runner import runtestprotocol

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for attempt in range(2):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        if attempt == 0 and any(report.failed for report in reports):
            for report in reports:
                report.outcome = "rerun" if report.failed else report.outcome
                item.ihook.pytest_runtest_logreport(report=report)
            item._initrequest()
            continue
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        break
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""
