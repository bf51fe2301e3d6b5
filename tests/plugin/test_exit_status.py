"""The exit status agrees with the table: no session in which the gate failed a case ends with 0 by
accident.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.reruns import RERUNS
from helpers.support import add_noise

HEAD = """
import pytest

KEPT = {{}}
PAIR = pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, depth=0, new_tokens=24)

@PAIR
def test_kept(specdec_run):
    KEPT["run"] = specdec_run
"""

DISCARDED = """
@PAIR
def test_no_assert(specdec_run, specdec_baseline):
    specdec_run == specdec_baseline

@PAIR
def test_sides_swapped(specdec_run, specdec_baseline):
    specdec_baseline == specdec_run

@PAIR
def test_a_metric(specdec_run, specdec_baseline):
    specdec_run.acceptance_rate == specdec_baseline.acceptance_rate

@PAIR
def test_approx_of_the_run(specdec_run, specdec_baseline):
    assert pytest.approx(specdec_run.acceptance_length, rel=0.9) == specdec_baseline.acceptance_length

@PAIR
def test_or(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline or True

@PAIR
def test_caught(specdec_run, specdec_baseline):
    with pytest.raises(AssertionError):
        assert specdec_run == specdec_baseline

@PAIR
def test_skipped_afterwards(specdec_run, specdec_baseline):
    specdec_run == specdec_baseline
    pytest.skip("not today")

@pytest.fixture
def same(specdec_run, specdec_baseline):
    return specdec_run == specdec_baseline

@PAIR
def test_in_a_fixture(same):
    pass
"""
"""Each test's comparison fails, and nothing becomes of its value."""

NOTHING = """
@PAIR
def test_asks_for_it_only(specdec_run, specdec_baseline):
    pass

@PAIR
def test_at_least_a_share(specdec_run, specdec_baseline):
    assert specdec_run.acceptance_length >= 0.1 * specdec_baseline.acceptance_length

@PAIR
def test_plain_numbers(specdec_run, specdec_baseline):
    assert float(specdec_run.acceptance_length) != 0.5 * float(specdec_baseline.acceptance_length)

@PAIR
def test_approx_of_the_baseline(specdec_run, specdec_baseline):
    assert specdec_run.acceptance_length == pytest.approx(specdec_baseline.acceptance_length, rel=0.9)
"""

SEEN = """
@PAIR
@pytest.mark.xfail(strict=True)
def test_xfail(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@PAIR
@pytest.mark.xfail
def test_xfail_of_a_value(specdec_run, specdec_baseline):
    specdec_run == specdec_baseline

@PAIR
def test_a_difference(specdec_run, specdec_baseline):
    assert specdec_run != specdec_baseline

@PAIR
def test_a_difference_of_metrics(specdec_run, specdec_baseline):
    assert specdec_run.acceptance_rate != specdec_baseline.acceptance_rate

@PAIR
def test_no_baseline_asked_for(specdec_run):
    assert specdec_run.acceptance_length > 1
"""


def write(project, body: str) -> int:
    """Write a test file; the number of its tests besides `test_kept`."""
    project.write_test(HEAD + body)
    return body.count("def test_")


@pytest.fixture
def worse(project, tmp_path: Path) -> str:
    """The option that names a worse draft than the stored one."""
    write(
        project,
        "\n@PAIR\ndef test(specdec_run, specdec_baseline):\n    assert specdec_run == "
        "specdec_baseline\n",
    )
    project.create()
    return f"--specdec-draft={add_noise(project.draft, tmp_path / 'noisy-draft', 0.1)}"


def verdict(project) -> str:
    """What the JSON report of the last run says of its one case."""
    (case,) = json.loads((project.pytester.path / "out.json").read_text())["cases"]
    return case["verdict"]


def test_a_judgement_that_comes_to_nothing_fails_the_test(project, worse: str) -> None:
    tests = write(project, DISCARDED)
    result = project.run(worse, "--specdec-report=out.json", ok=False)
    result.assert_outcomes(failed=tests, passed=1)
    text = result.stdout.str()
    assert (
        text.count("but the test did not fail; assert the comparison, or mark the test xfail")
        >= tests
    )
    assert text.count("positions  conditional acceptance fell at") >= tests
    assert verdict(project) == "regressed"
    project.run("-k", "not caught and not skipped", ok=True)


def test_a_judgement_in_a_teardown_fails_the_session(project, worse: str) -> None:
    write(
        project,
        """
@pytest.fixture
def late(specdec_run, specdec_baseline):
    yield
    specdec_run == specdec_baseline

@PAIR
def test(late, specdec_run, specdec_baseline):
    assert specdec_run != specdec_baseline
""",
    )
    project.run(worse, ok=False).assert_outcomes(passed=2, errors=1)


def test_a_test_that_asks_for_a_baseline_and_compares_nothing_fails(project, worse: str) -> None:
    tests = write(project, NOTHING)
    for arguments in ((worse,), ()):
        result = project.run(*arguments, ok=False)
        result.assert_outcomes(failed=tests, passed=1)
        assert (
            result.stdout.str().count(
                "requests specdec_baseline and compares nothing with it by == or !=, so no gate"
            )
            >= tests
        )


NO_ASSERTS = """
import types

import pytest

@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makemodule(module_path, parent):
    module = yield
    source = module_path.read_text()
    module._getobj = lambda: executed(compile(source, str(module_path), "exec", optimize=1))
    return module

def executed(code):
    module = types.ModuleType("test_letters")
    exec(code, vars(module))
    return module
"""
"""A conftest.py that compiles test files as `python -O` does."""


def test_asserts_that_are_compiled_away_compare_nothing_and_fail(project, worse: str) -> None:
    project.pytester.makeconftest(NO_ASSERTS)
    result = project.run("--assert=plain", worse)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*compares nothing with it*without -O*"])


@pytest.mark.exhaustive
def test_optimised_python_compares_nothing_and_fails(project, worse: str) -> None:
    """The same in a process that Python starts with -O, which loads all modules anew."""
    result = project.pytester.run(
        sys.executable, "-O", "-m", "pytest", "--assert=plain", "-p", "no:cacheprovider", worse
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*compares nothing with it*without -O*"])


def test_a_failure_that_was_looked_for_is_no_failure(project, worse: str) -> None:
    tests = write(project, SEEN)
    project.run(worse, ok=True).assert_outcomes(xfailed=2, passed=tests - 1)


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize(
    "options", [("-x",), ("-n", "2"), ("--assert=plain",), ("-p", "no:terminal")], ids=" ".join
)
def test_however_it_is_run(project, worse: str, options: tuple[str, ...]) -> None:
    write(project, DISCARDED)
    assert project.run(worse, *options).ret == pytest.ExitCode.TESTS_FAILED


def test_last_failed_runs_them_again(project, worse: str) -> None:
    tests = write(project, DISCARDED)
    for options in ((), ("--lf",)):
        result = project.pytester.runpytest(worse, *options)
        result.assert_outcomes(failed=tests, passed=0 if options else 1)


@pytest.mark.usefixtures("warm_processes")
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "workers"])
def test_running_failed_tests_again_does_not_turn_the_session_green(
    project, worse: str, workers: tuple[str, ...]
) -> None:
    once = """
@PAIR
def test(specdec_run, request):
    if KEPT.setdefault("attempts", 0) == 0:
        KEPT["attempts"] = 1
        assert specdec_run == request.getfixturevalue("specdec_baseline")
"""
    write(project, once)
    project.pytester.makeconftest(RERUNS)
    result = project.run(worse, *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*the gate failed letters/*-k4-depth0-t1, and no test did; the exit status is 1*"]
    )


def test_the_run_of_one_case_is_not_judged_by_the_baseline_of_another(project) -> None:
    project.write_test("""
import pytest

KEPT = {{}}
PAIR = dict(target={target!r}, drafter={draft!r}, depth=0, new_tokens=24)

@pytest.mark.specdec(k=8, **PAIR)
def test_kept(specdec_run, specdec_baseline):
    KEPT["run"] = specdec_run
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(k=4, **PAIR)
def test_own(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(k=4, **PAIR)
@pytest.mark.parametrize("metric", [None, "acceptance_length", "acceptance_rate"])
def test_other(specdec_baseline, metric):
    run, baseline = KEPT["run"], specdec_baseline
    assert run == baseline if metric is None else getattr(run, metric) == getattr(baseline, metric)
""")
    project.create("-k", "test_kept or test_own")
    result = project.run("--specdec-report=out.json")
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*error: the run of letters/*-k8-depth0-t1 is compared with the baseline of "
            "letters/*-k4-depth0-t1; compare each case*"
        ]
    )
    rows = json.loads((project.pytester.path / "out.json").read_text())["cases"]
    assert {row["k"]: row["verdict"] for row in rows} == {8: "pass", 4: "error"}


def test_an_error_is_no_difference(project) -> None:
    write(
        project,
        """
@PAIR
def test_difference_to_nothing(specdec_run, specdec_baseline):
    assert specdec_run != specdec_baseline
""",
    )
    project.run(ok=False).stdout.fnmatch_lines(["*no baseline at *, but the test did not fail; *"])


def test_leaving_pytest_does_not_turn_the_session_green(project, worse: str) -> None:
    write(
        project,
        """
@PAIR
def test_leaves(specdec_run, specdec_baseline):
    if not specdec_run == specdec_baseline:
        pytest.exit("done", returncode=0)
""",
    )
    assert project.run(worse).ret == pytest.ExitCode.TESTS_FAILED


NUMBERS = """
@PAIR
def test_approx(specdec_run, specdec_baseline):
    assert specdec_run.acceptance_length == pytest.approx(specdec_baseline.acceptance_length, rel=0.1)

@PAIR
def test_floor(specdec_run, specdec_baseline):
    assert specdec_run.acceptance_length >= 0.9 * specdec_baseline.acceptance_length
"""


def test_where_only_numbers_are_compared_a_missing_baseline_is_not_advised_to_be_created_by_an_update(
    project,
) -> None:
    write(project, NUMBERS)
    text = project.run("--specdec-update=new", ok=False).stdout.str()
    advice = "so --specdec-update=new creates none (pytest.approx and >= compare numbers)"
    assert " ".join(text.split()).count(advice) == 2, text
    assert project.baselines == {}
    assert text.splitlines().count("    assert specdec_run == specdec_baseline") == 2
