"""What the plugin does to the process that it runs in: threads that wait, and garbage."""

from __future__ import annotations

import sys

import pytest

ONCE = """
import gc, pytest
frozen = []
for session in range(2):
    assert pytest.main(["-q", "--specdec-k=1", "--collect-only", "-p", "no:cacheprovider"]) == 5
    frozen.append(gc.get_freeze_count())
assert frozen[0] > 0 and frozen == frozen[:1] * 2, frozen
assert gc.isenabled()
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


def test_what_is_there_after_collection_is_not_searched_for_garbage(
    pytester: pytest.Pytester,
) -> None:
    """Once in a process, so that the garbage of one session cannot pile up on that of the next."""
    result = pytester.run(sys.executable, "-c", ONCE)
    assert result.ret == 0, result.stderr.str() + result.stdout.str()
