"""What the plugin does to the process that it runs in: threads that wait, and garbage."""

from __future__ import annotations

import pytest

KEEPING = """
import gc, weakref

class Model:
    "As one that accelerate dispatched: it refers to itself."

    def __init__(self):
        self.forward, self.log = self.run, open({log!r}, "a")

    def run(self):
        self.log.write("x")

gone = weakref.ref(Model())  # while tests are collected
held = {{"model": Model()}}
dropped = weakref.ref(held["model"])
kept = Model()

def test_memory():
    held.clear()
    gc.collect()
    assert gc.isenabled() and gone() is None and dropped() is None

def test_file():
    kept.run()
"""
WAITING = """
import os, sys

def test_of_a_worker():
    assert "torch" not in sys.modules  # which reads the policy when it is loaded
    assert os.environ["OMP_WAIT_POLICY"] == {policy!r}
"""


@pytest.mark.parametrize(("given", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_a_worker_leave_the_cores_to_others_while_they_wait(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, given: str | None, policy: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    pytester.makepyfile(WAITING.format(policy=policy))
    pytester.runpytest_subprocess("-n1", "-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_without_workers_they_wait_as_they_did(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    pytester.makepyfile(
        'import os\n\ndef test_alone():\n    assert "OMP_WAIT_POLICY" not in os.environ\n'
    )
    pytester.runpytest_subprocess("--specdec-k=1", "-p", "no:cacheprovider").assert_outcomes(
        passed=1
    )


@pytest.mark.parametrize("option", ["--specdec-k=1", "-n1"])
def test_what_tests_drop_is_freed_and_what_they_write_is_flushed(
    pytester: pytest.Pytester, option: str
) -> None:
    """As without the plugin; frozen objects that refer to themselves never are."""
    log = pytester.path / "log.txt"
    pytester.makepyfile(KEEPING.format(log=str(log)))
    pytester.runpytest_subprocess(option, "-p", "no:cacheprovider").assert_outcomes(passed=2)
    assert log.read_text() == "x"
