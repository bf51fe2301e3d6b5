"""One gate a test, one name a gate: what the session hands out and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.records import case, row
from helpers.session_parts import settings

from pytest_specdec.common.errors import RequestError
from pytest_specdec.gate.verdict import Verdict
from pytest_specdec.judging.counts_gate import GateRequest
from pytest_specdec.session.counts_gates import CountsGates
from pytest_specdec.session.state import SessionCases


class Gate:
    """Answers with a verdict, or an error."""

    def __init__(self, request: GateRequest, answer: Any) -> None:
        self.request, self._answer, self.row = request, answer, row(id=request.id)

    def judge(self, *, rounds: object, sums: object) -> tuple[Verdict, bool]:
        if isinstance(self._answer, Exception):
            raise self._answer
        outcome: Any = self._answer
        reason = f"of {rounds} and {sums}"
        verdict = Verdict(outcome=outcome, metric=self.request.metric, reason=reason)
        return verdict, outcome == "pass"


def gates(*nodeids: str, answer: Any = "pass", **options: Any) -> CountsGates:
    """Gates of a session in which these tests were collected, beside one with a case."""
    cases = SessionCases(generated=[case(suite="chat")], counts_tests=set(nodeids))
    components: Any = SimpleNamespace(counts_gate=lambda request: Gate(request, answer))
    return CountsGates(settings(**options), cases, components)


def item(nodeid: str) -> Any:
    return SimpleNamespace(nodeid=nodeid, path=Path("/root/suites/chat/test_a.py"))


A, B = item("a"), item("b")


def test_a_gate_takes_its_suite_from_the_folder_and_the_rest_from_options() -> None:
    made = gates("a", margin=0.02).gate(A, "eagle3")
    assert repr(made) == "<specdec_gate chat/eagle3>"
    assert made._gate.request == GateRequest(
        name="eagle3", suite="chat", margin=0.02, k=None, metric="acceptance_length"
    )


def test_a_test_may_set_margin_k_and_metric() -> None:
    made = gates("a", margin=0.02).gate(A, "eagle3", margin=0, k=4, metric="acceptance_rate")
    request = made._gate.request
    assert (request.margin, request.k, request.metric) == (0, 4, "acceptance_rate")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"name": "a/b"}, "cannot name a gate"),
        ({"margin": 1.5}, "margin=1.5 is out of range"),
        ({"margin": float("nan")}, "margin=nan is out of range"),
        ({"margin": "5%"}, "margin='5%' is not an int or float"),
        ({"k": 0}, "is not a whole number of at least 1"),
        ({"k": 2.5}, "is not an int"),
        (
            {"metric": "speedup"},
            "metric='speedup' is not one of acceptance_length, acceptance_rate",
        ),
        ({"metric": []}, r"metric=\[\] is not one of"),
    ],
)
def test_settings_that_cannot_be_used_are_one_message(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        gates("a").gate(A, **{"name": "eagle3", **asked})


@pytest.mark.parametrize("name", ["eagle3", "Eagle3"])
def test_two_tests_cannot_share_a_name(name: str) -> None:
    handed = gates("a", "b")
    handed.gate(A, "eagle3")
    with pytest.raises(RequestError, match="already names the gate of a, and both would share"):
        handed.gate(B, name)
    handed.gate(B, "eagle3-tp2")


def test_the_name_of_a_case_is_taken() -> None:
    with pytest.raises(RequestError, match="already names a case of specdec_run, and both would"):
        gates("a").gate(A, case().name)


def test_a_test_has_one_gate() -> None:
    handed = gates("a")
    handed.gate(A, "first")
    assert handed.gate(A, "first")._gate is handed.gate(A, "first")._gate
    for asked in ({"name": "second"}, {"name": "first", "margin": 0.1}):
        with pytest.raises(RequestError, match="each test has one gate"):
            handed.gate(A, **asked)


def test_a_test_that_runs_again_gets_a_new_gate() -> None:
    handed = gates("a")
    handed.begin(A)
    first = handed.gate(A, "eagle3")._gate
    assert handed.row("a") == row(id="chat/eagle3")
    handed.begin(A)
    assert handed.row("a") is None
    assert handed.gate(A, "eagle3")._gate is not first


def test_a_gate_that_collection_did_not_count_is_refused() -> None:
    with pytest.raises(RequestError, match="requests specdec_gate while it runs, after the"):
        gates("b").begin(A)


def test_a_check_that_passes_returns_the_verdict() -> None:
    verdict = gates("a").gate(A, "eagle3").check(rounds=[1], sums=None)
    assert (verdict.outcome, verdict.reason) == ("pass", "of [1] and None")


def test_a_check_that_does_not_pass_raises_its_headline() -> None:
    with pytest.raises(AssertionError, match="acceptance_length regressed: of None and 2"):
        gates("a", answer="regressed").gate(A, "eagle3").check(sums=2)


def test_counts_that_cannot_be_judged_fail_the_test_with_one_message() -> None:
    error = RequestError("no request is given; give some")
    with pytest.raises(pytest.fail.Exception) as failed:
        gates("a", answer=error).gate(A, "eagle3").check()
    assert str(failed.value) == "specdec_gate('eagle3'): no request is given; give some"
    assert not failed.value.pytrace
