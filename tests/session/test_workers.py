"""What a worker sends arrives as it was, as plain data."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pytest_specdec.session.workers import WorkerResults, command_line, worker_output

RESULTS = WorkerResults(
    problem="no target; pass one",
    files={Path("/b/a.json"): "{}"},
    stale=[Path("/b/old.json")],
    unseen=["text/a", "text/b"],
)


def test_results_arrive_as_they_were_sent() -> None:
    output: dict[str, Any] = {"of another plugin": 1}
    RESULTS.send(output)
    assert WorkerResults.receive(json.loads(json.dumps(output))) == RESULTS


def test_a_worker_that_crashed_sends_nothing() -> None:
    assert WorkerResults.receive({}) == WorkerResults(stale=[])


def test_a_process_without_xdist_is_not_a_worker() -> None:
    config: Any = SimpleNamespace(invocation_params=SimpleNamespace(args=("-q", Path("suites"))))
    assert worker_output(config) is None
    assert command_line(config) == ("-q", "suites")


def test_a_worker_knows_its_controllers_command_line() -> None:
    config: Any = SimpleNamespace(
        workeroutput={},
        workerinput={"mainargv": ["/usr/bin/pytest", "-n2", "suites"]},
        invocation_params=SimpleNamespace(args=("--of-the-worker",)),
    )
    assert worker_output(config) == {}
    assert command_line(config) == ("-n2", "suites")
