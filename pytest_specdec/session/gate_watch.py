"""Fails tests whose comparison with a baseline came to nothing, so that the exit status agrees with
the table.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from ..common.printable import printable
from ..judging.judgements import Judgement, JudgementLog
from .build import Components
from .state import cases_of


class GateWatch:
    """Follows each test through its phases and collects the gate's judgements and messages."""

    def __init__(self, comparisons: JudgementLog, components: Components) -> None:
        self._comparisons, self._components = comparisons, components
        self._summaries: dict[str, str] = {}
        """By the headline of a failed assertion: its line of the short test summary."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        return (yield from self._watch(item, "setup"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        return (yield from self._watch(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        return (yield from self._watch(item, "teardown"))

    def _watch(self, item: pytest.Item, phase: str) -> Generator[None, object, object]:
        """Run a phase of a test, and fail it where a judgement that failed was ignored."""
        problem, comparisons = None, self._comparisons
        try:
            result = yield
        except pytest.skip.Exception:
            if (problem := comparisons.dropped(item.nodeid, self._take_judgements())) is None:
                raise
        except (pytest.exit.Exception, KeyboardInterrupt):  # no report of the test will follow
            comparisons.failed(item.nodeid, self._take_judgements())
            comparisons.take_messages(item.nodeid, seen=False)
            raise
        except BaseException:
            comparisons.failed(item.nodeid, self._take_judgements())
            if phase == "call":
                self._explain_no_baseline(item)
            raise
        else:
            if phase == "setup":
                comparisons.hold(item.nodeid, self._take_judgements())
            else:
                problem = comparisons.dropped(item.nodeid, self._take_judgements())
            if problem is None and phase == "call":
                problem = comparisons.missing(item.nodeid)
        if problem is not None:
            pytest.fail(problem, pytrace=False)
        return result

    def _take_judgements(self) -> list[Judgement]:
        runners = self._components.runners_in_use
        judgements = [judgement for runner in runners for judgement in runner.take_judgements()]
        self._summaries |= {
            judgement.headline: judgement.summary
            for judgement in judgements
            if not judgement.passes
        }
        return judgements

    def _explain_no_baseline(self, item: pytest.Item) -> None:
        """Report why no update creates the baseline that a failed test asked for."""
        for case in cases_of([item]):
            if not self._components.store.has_record(case):
                self._comparisons.explain_no_baseline(item.nodeid, case.id)

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> list[str] | None:
        runner = self._components.runner_in_use
        if runner is None or op not in ("==", "!="):
            return None
        from ..report.failure_message import headline

        verdict = runner.compared(left, right)
        return None if verdict is None else [printable(headline(verdict))]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._summarize_crash(report)
        messages = self._comparisons.take_messages(item.nodeid, seen=hasattr(report, "wasxfail"))
        report.sections += [("speculative decoding gate", "\n".join(lines)) for lines in messages]
        return report

    def _summarize_crash(self, report: pytest.TestReport) -> None:
        """Let the short test summary show metric and change of a failed gate in place of `assert
        ...`.
        """
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            summaries = [text for line, text in self._summaries.items() if line in crash.message]
            crash.message = (summaries or [crash.message])[-1]
        self._summaries.clear()
