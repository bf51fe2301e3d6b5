"""Counts that a test hands over, in a user's project: no models, no prompts, no engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import scipy.stats  # noqa: F401  # the pytest inside must not be the first to load numpy and scipy
from helpers.reruns import RERUNS

COUNTS = """
import os
import random

import pytest

def rounds(seed, share=1.0, requests=24):
    \"\"\"Rounds of each request, which has a skill of its own; a share of it is left.\"\"\"
    skills = random.Random(1)
    draws = random.Random(seed)
    skills = [skills.uniform(0.5, 0.9) * share for _ in range(requests)]
    return {
        f"q{place}": [[3, accepted(draws, skill)] for _ in range(60)]
        for place, skill in enumerate(skills)
    }

def accepted(draws, skill):
    return next((place for place in range(3) if draws.random() > skill), 3)

SEED, SHARE = int(os.environ.get("SEED", "0")), float(os.environ.get("SHARE", "1"))
"""
TEST = """
def test_counts(specdec_gate):
    specdec_gate("mine", margin=0.1).check(rounds=rounds(SEED, SHARE))
"""


class Harness:
    """A project that counts by itself."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester, self._monkeypatch = pytester, monkeypatch
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        pytester.makeini("[pytest]\naddopts = --strict-markers\n")
        self.write(TEST)

    def write(self, body: str, name: str = "suites/chat/test_counts.py") -> None:
        path = self.pytester.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(COUNTS + body)

    def run(
        self, *arguments: str, seed: int = 0, share: float = 1.0, status: int | None = None
    ) -> pytest.RunResult:
        self._monkeypatch.setenv("SEED", str(seed))
        self._monkeypatch.setenv("SHARE", str(share))
        result = self.pytester.runpytest("-p", "no:cacheprovider", *arguments)
        if status is not None:
            assert result.ret == status, result.stdout.str() + result.stderr.str()
        return result

    @property
    def stored(self) -> list[str]:
        folder = self.pytester.path / "baselines"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.json"))


@pytest.fixture
def harness(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Harness:
    return Harness(pytester, monkeypatch)


@pytest.fixture
def recorded(harness: Harness) -> Harness:
    harness.run("--specdec-update=new", status=0)
    assert harness.stored == ["chat/mine.json"]
    return harness


def test_without_a_baseline_it_fails_and_names_the_command(harness: Harness) -> None:
    result = harness.run(status=1)
    result.stdout.fnmatch_lines(
        [
            "specdec: 1 gate on counts that tests hand over, false alarms at most 1.00 % in all",
            "*AssertionError: acceptance_length error: no baseline at *chat/mine.json; create it*",
            "  create     pytest * --specdec-update=new",
        ]
    )
    assert harness.stored == []


def test_a_recorded_harness_passes_again_and_fails_on_fewer_accepted_tokens(
    recorded: Harness,
) -> None:
    recorded.run(status=0).assert_outcomes(passed=1)
    recorded.run(seed=1, status=0).assert_outcomes(passed=1)
    result = recorded.run(seed=1, share=0.75, status=1)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: acceptance_length regressed: *, fails from -10.00 %",
            "  detectable a drop of * at 80 % power with 24 prompts",
            "  mine",
            "    3      - *  regressed",
            "FAILED * - acceptance_length *",
        ]
    )
    assert "counts_gates.py" not in result.stdout.str()


def test_reports_have_its_row(recorded: Harness) -> None:
    names = ("out.json", "out.html", "out.md", "out.txt")
    recorded.run(*(f"--specdec-report={name}" for name in names), share=0.75, status=1)
    folder = recorded.pytester.path
    (row,) = json.loads((folder / "out.json").read_text())["cases"]
    assert (row["id"], row["engine"], row["verdict"]) == ("chat/mine", "counts", "regressed")
    assert (row["depth"], row["temperature"], row["target"]) == (None, None, "not stated")
    assert row["smallest_detectable_drop"] > 0
    for name in names[1:]:
        text = (folder / name).read_text()
        assert "mine" in text
        assert "regressed" in text


def test_alpha_margin_and_inconclusive_hold(recorded: Harness) -> None:
    recorded.write(TEST.replace(", margin=0.1", ""))
    recorded.run(seed=1, status=1).stdout.fnmatch_lines(["*acceptance_length inconclusive: *"])
    recorded.run("--specdec-inconclusive=warn", seed=1, status=0)
    recorded.run("--specdec-margin=20%", seed=1, status=0)
    recorded.run("--specdec-alpha=1e-9", status=1).stdout.fnmatch_lines(
        ["*24 requests can never fail a gate at level 1e-09; give the counts of at least 30*"]
    )


def test_the_folder_of_baselines_and_updates_are_the_options(recorded: Harness) -> None:
    recorded.run("--specdec-baselines=other", status=1)
    before = (recorded.pytester.path / "baselines/chat/mine.json").read_text()
    recorded.run("--specdec-update=new", seed=1, status=0)
    recorded.run("--specdec-update=changed", status=0)
    assert (recorded.pytester.path / "baselines/chat/mine.json").read_text() == before
    result = recorded.run("--specdec-update=changed", seed=1, share=0.75, status=0)
    result.stdout.fnmatch_lines(["*updated", "wrote baselines/chat/mine.json"])
    recorded.run(seed=1, share=0.75, status=0)


SWALLOWED = """
def test_caught(specdec_gate):
    with pytest.raises(AssertionError):
        specdec_gate("mine").check(rounds=rounds(1, 0.75))

def test_caught_refusal(specdec_gate):
    with pytest.raises(pytest.fail.Exception):
        specdec_gate("refused").check(rounds={})

def test_skipped_afterwards(specdec_gate):
    try:
        specdec_gate("mine-too").check(rounds=rounds(1, 0.75))
    except AssertionError:
        pytest.skip("not today")

def test_nothing_is_judged(specdec_gate):
    specdec_gate("idle")

def test_not_even_named(specdec_gate):
    pass
"""


def test_what_a_test_swallows_fails_it_all_the_same(recorded: Harness) -> None:
    recorded.write(SWALLOWED)
    result = recorded.run(status=1)
    result.assert_outcomes(failed=5)
    text = result.stdout.str().partition("short test summary info")[0]  # its length depends on CI
    assert text.count("but the test did not fail; let the AssertionError of check() pass, or") == 2
    assert (
        text.count("requests specdec_gate and no counts were judged; call specdec_gate(NAME)") == 3
    )


def test_running_a_failed_test_again_does_not_turn_the_session_green(recorded: Harness) -> None:
    recorded.pytester.makeconftest(RERUNS)
    recorded.write(
        """
ATTEMPTS = []

def test_counts(specdec_gate):
    ATTEMPTS.append(0.75 if not ATTEMPTS else 1.0)
    specdec_gate("mine", margin=0.1).check(rounds=rounds(1, ATTEMPTS[-1]))
"""
    )
    result = recorded.run(status=1)
    result.stdout.fnmatch_lines(
        [
            "    3      - *  regressed",
            "the gate failed chat/mine, and no test did; the exit status is 1",
        ]
    )


def test_an_expected_failure_and_a_skip_are_no_failure(recorded: Harness) -> None:
    recorded.write(
        """
@pytest.mark.xfail(strict=True)
def test_known(specdec_gate):
    specdec_gate("mine").check(rounds=rounds(1, 0.75))

def test_elsewhere(specdec_gate):
    pytest.skip("no GPU here")
"""
    )
    recorded.run(status=0).assert_outcomes(xfailed=1, skipped=1)


def test_a_check_in_a_fixture_is_judged(recorded: Harness) -> None:
    recorded.write(
        """
@pytest.fixture
def verdict(specdec_gate):
    return specdec_gate("mine", margin=0.1).check(rounds=rounds(1))

def test_counts(verdict):
    assert verdict.outcome == "pass"
    assert verdict.now > 1
"""
    )
    recorded.run("--specdec-report=out.json", status=0).assert_outcomes(passed=1)
    (row,) = json.loads((recorded.pytester.path / "out.json").read_text())["cases"]
    assert row["verdict"] == "pass"


def test_unittest_classes_take_it_through_a_fixture(recorded: Harness) -> None:
    recorded.write(
        """
import unittest

class TestEagle(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _gate(self, specdec_gate):
        self.gate = specdec_gate

    def test_accept_length(self):
        self.gate("mine", margin=0.1).check(rounds=rounds(SEED, SHARE))
"""
    )
    recorded.run(status=0).assert_outcomes(passed=1)
    recorded.run(share=0.75, status=1).assert_outcomes(failed=1)


TWICE = """
def test_first(specdec_gate):
    specdec_gate("mine", margin=0.1).check(rounds=rounds(SEED))

def test_second(specdec_gate):
    specdec_gate("mine", margin=0.1).check(rounds=rounds(SEED))
"""


def test_a_name_belongs_to_one_test(recorded: Harness) -> None:
    recorded.write(TWICE)
    result = recorded.run(status=1)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*chat/mine already names the gate of *::test_first, and both would share a baseline*"]
    )


@pytest.mark.usefixtures("warm_processes")
def test_workers_cannot_share_a_name_either(harness: Harness) -> None:
    """Each worker sees its own test alone; the controller sees both and writes nothing."""
    harness.write(TWICE)
    result = harness.run("-n2", "--dist=load", "--specdec-update=new", status=4)
    result.stdout.fnmatch_lines(["ERROR: *both call their gate chat/mine, and would share*"])
    assert harness.stored == []


@pytest.mark.usefixtures("warm_processes")
def test_workers_judge_and_the_controller_writes(harness: Harness) -> None:
    body = """
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_counts(specdec_gate, name):
    specdec_gate(name, margin=0.1).check(rounds=rounds(SEED, SHARE))
"""
    harness.write(body)
    harness.run("-n2", "--specdec-update=new", status=0)
    assert harness.stored == ["chat/a.json", "chat/b.json", "chat/c.json"]
    result = harness.run("-n2", "--specdec-report=out.json", share=0.75, status=1)
    result.assert_outcomes(failed=3)
    rows = json.loads((harness.pytester.path / "out.json").read_text())["cases"]
    assert [row["verdict"] for row in rows] == ["regressed"] * 3
    harness.write(body.replace("    specdec", "    with pytest.raises(AssertionError): specdec"))
    harness.run("-n2", share=0.75, status=1).assert_outcomes(failed=3)


def test_the_rate_is_shared_by_all_gates_of_the_session(harness: Harness) -> None:
    """7 requests resolve 1 % for one gate, and not a third of it."""
    body = """
@pytest.mark.parametrize("name", {names})
def test_counts(specdec_gate, name):
    specdec_gate(name, margin=0.1).check(rounds=rounds(SEED, requests=7))
"""
    harness.write(body.format(names=["a"]))
    harness.run("--specdec-update=new", status=0)
    harness.write(body.format(names=["a", "b", "c"]))
    harness.run("-k", "a]", status=0)
    result = harness.run("--specdec-update=new", status=1)
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "specdec: 3 gates on counts that tests hand over, false alarms at most 1.00 % in all",
            "*7 requests can never fail a gate at level 0.0033; give the counts of at least 9*",
        ]
    )
    assert harness.stored == ["chat/a.json"]


def test_a_gate_that_is_requested_while_tests_run_is_refused(recorded: Harness) -> None:
    recorded.write(
        """
def test_counts(request):
    request.getfixturevalue("specdec_gate")("mine").check(rounds=rounds(SEED))

def test_another(specdec_gate):
    specdec_gate("mine", margin=0.1).check(rounds=rounds(SEED))
"""
    )
    result = recorded.run(status=1)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*requests specdec_gate while it runs, after the session's*"])


def test_an_unfinished_session_writes_nothing(harness: Harness) -> None:
    harness.write(TEST + "\ndef test_stop():\n    pytest.exit('enough', returncode=0)\n")
    harness.run("--specdec-update=new")
    assert harness.stored == []


def test_nothing_is_imported_from_torch(harness: Harness) -> None:
    blocker = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "tokenizers", "safetensors"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
    (harness.pytester.path / "conftest.py").write_text(blocker)
    result = harness.pytester.runpytest_subprocess("-p", "no:cacheprovider", "--specdec-update=new")
    assert result.ret == 0, result.stdout.str()


def test_gates_of_cases_and_of_counts_share_one_session(project) -> None:
    project.write_test(name="suites/letters/test_letters.py")
    project.write_test(
        (COUNTS + TEST).replace("{", "{{").replace("}", "}}"), name="suites/chat/test_counts.py"
    )
    result = project.run("--specdec-update=new", ok=True)
    result.stdout.fnmatch_lines(
        [
            "specdec: 4 gates on 1 pair of models and 1 gate on counts that tests hand over, false "
            "alarms at most 1.00 % in all"
        ]
    )
    assert "chat/mine.json" in project.baselines
    project.run(ok=True)
    case_name = next(
        Path(name).stem for name in project.baselines if name.startswith("letters/tiny")
    )
    project.write_test(
        (COUNTS + TEST.replace("mine", case_name)).replace("{", "{{").replace("}", "}}"),
        name="suites/letters/test_more_counts.py",
    )
    result = project.run("--specdec-update=all", ok=False)
    result.stdout.fnmatch_lines(["*already names a case of specdec_run, and both would share*"])
