"""A test whose comparison came to nothing fails, whatever became of the value of `==`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.records import case
from helpers.session_parts import item

from pytest_specdec.judging.judgements import Judgement, JudgementLog
from pytest_specdec.session.gate_watch import GateWatch

CASE = case()
NODE = "suites/test_a.py::test_a"


def judgement(*, passes: bool, expected: bool = False, counts_given: bool = False) -> Judgement:
    return Judgement(
        case_id=CASE.id,
        passes=passes,
        headline="acceptance length fell",
        summary="fell",
        message=[] if passes else ["it fell"],
        expected=expected,
        counts_given=counts_given,
    )


class Runner:
    """Hands out judgements once."""

    def __init__(self, *judgements: Judgement) -> None:
        self.judgements = list(judgements)

    def take_judgements(self) -> list[Judgement]:
        taken, self.judgements = self.judgements, []
        return taken


def watch(
    *judgements: Judgement, asks: bool = False, stored: bool = True
) -> tuple[GateWatch, JudgementLog]:
    comparisons = JudgementLog()
    comparisons.asking |= {NODE} if asks else set()
    store = SimpleNamespace(has_record=lambda of: stored)
    components: Any = SimpleNamespace(
        runner_in_use=None, runners_in_use=[Runner(*judgements)], store=store
    )
    return GateWatch(comparisons, components), comparisons


def run(watching: GateWatch, phase: str = "call", error: BaseException | None = None) -> object:
    """Run one phase of a test that ends well, or with an error."""
    hook = getattr(watching, f"pytest_runtest_{phase}")(item(NODE, CASE))
    next(hook)
    try:
        if error is None:
            hook.send("result")
        else:
            hook.throw(error)
    except StopIteration as end:
        return end.value
    raise AssertionError("the hook goes on")


def report(watching: GateWatch, **attributes: Any) -> Any:
    """The report of the test, with what the gate adds."""
    test_report = SimpleNamespace(longrepr=None, sections=[], **attributes)
    hook = watching.pytest_runtest_makereport(item(NODE, CASE))
    next(hook)
    with pytest.raises(StopIteration):
        hook.send(test_report)
    return test_report


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_a_phase_without_comparisons_is_left_alone(phase: str) -> None:
    watching, _ = watch()
    assert run(watching, phase) == "result"
    assert report(watching).sections == []


@pytest.mark.parametrize("phase", ["call", "teardown"])
def test_a_failed_judgement_fails_the_test_that_ignored_it(phase: str) -> None:
    watching, comparisons = watch(judgement(passes=False))
    with pytest.raises(
        pytest.fail.Exception, match="acceptance length fell, but the test did not fail"
    ):
        run(watching, phase)
    assert report(watching).sections == [("speculative decoding gate", "it fell")]
    assert comparisons.unseen == {CASE.id}


@pytest.mark.parametrize(
    "harmless", [judgement(passes=True), judgement(passes=False, expected=True)]
)
def test_a_judgement_that_passes_or_was_expected_is_no_problem(harmless: Judgement) -> None:
    watching, _ = watch(harmless, asks=True)
    assert run(watching) == "result"


def test_a_judgement_of_a_fixture_is_held_until_the_test_has_run() -> None:
    watching, _ = watch(judgement(passes=False))
    assert run(watching, "setup") == "result"
    with pytest.raises(pytest.fail.Exception, match="but the test did not fail"):
        run(watching)


def test_a_test_that_compares_nothing_with_its_baseline_fails() -> None:
    watching, _ = watch(asks=True)
    with pytest.raises(pytest.fail.Exception, match="compares nothing with it by == or !="):
        run(watching)


def test_a_failed_test_keeps_its_own_error() -> None:
    watching, _ = watch(judgement(passes=False))
    with pytest.raises(AssertionError, match="mine"):
        run(watching, error=AssertionError("mine"))
    assert report(watching).sections == [("speculative decoding gate", "it fell")]


def test_a_skip_does_not_hide_a_failed_judgement() -> None:
    watching, _ = watch(judgement(passes=False))
    with pytest.raises(pytest.fail.Exception, match="but the test did not fail"):
        run(watching, error=pytest.skip.Exception("later"))
    watching, _ = watch(judgement(passes=True))
    with pytest.raises(pytest.skip.Exception):
        run(watching, error=pytest.skip.Exception("later"))


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), pytest.exit.Exception("enough")])
def test_an_interruption_leaves_the_failed_case_unseen(stop: BaseException) -> None:
    watching, comparisons = watch(judgement(passes=False))
    with pytest.raises(type(stop)):
        run(watching, error=stop)
    assert comparisons.unseen == {CASE.id}


@pytest.mark.parametrize(("stored", "messages"), [(False, 1), (True, 0)])
def test_a_test_that_failed_early_says_why_no_baseline_is_made(stored: bool, messages: int) -> None:
    watching, _ = watch(asks=True, stored=stored)
    with pytest.raises(AssertionError):
        run(watching, error=AssertionError())
    sections: Sequence[tuple[str, str]] = report(watching).sections
    assert sum("has no baseline, and the test failed before" in text for _, text in sections) == (
        messages
    )


def test_an_expected_failure_has_been_seen() -> None:
    watching, comparisons = watch(judgement(passes=False))
    with pytest.raises(AssertionError):
        run(watching, error=AssertionError())
    report(watching, wasxfail="known")
    assert comparisons.unseen == set()


def test_other_comparisons_than_by_equality_are_pytests() -> None:
    watching, _ = watch()
    assert watching.pytest_assertrepr_compare("<", 1, 2) is None


def test_a_test_that_hands_no_counts_to_its_gate_fails() -> None:
    watching, comparisons = watch()
    comparisons.handing_over.add(NODE)
    with pytest.raises(pytest.fail.Exception, match="requests specdec_gate and no counts were"):
        run(watching)
    watching, comparisons = watch(judgement(passes=True, counts_given=True))
    comparisons.handing_over.add(NODE)
    assert run(watching) == "result"


@pytest.mark.parametrize("counts_given", [True, False])
def test_a_gate_and_a_baseline_are_asked_for_apart(counts_given: bool) -> None:
    watching, comparisons = watch(judgement(passes=True, counts_given=counts_given), asks=True)
    comparisons.handing_over.add(NODE)
    missing = "compares nothing with it" if counts_given else "no counts were judged"
    with pytest.raises(pytest.fail.Exception, match=missing):
        run(watching)


def test_a_swallowed_judgement_on_counts_names_check() -> None:
    watching, _ = watch(judgement(passes=False, counts_given=True))
    with pytest.raises(
        pytest.fail.Exception, match=r"let the AssertionError of check\(\) pass, or"
    ):
        run(watching)


def test_the_line_of_the_summary_is_the_judgements() -> None:
    watching, _ = watch(judgement(passes=False))
    with pytest.raises(AssertionError):
        run(watching, error=AssertionError())
    crash = SimpleNamespace(message="AssertionError: acceptance length fell")
    hook = watching.pytest_runtest_makereport(item(NODE, CASE))
    next(hook)
    with pytest.raises(StopIteration):
        hook.send(SimpleNamespace(longrepr=SimpleNamespace(reprcrash=crash), sections=[]))
    assert crash.message == "fell"
