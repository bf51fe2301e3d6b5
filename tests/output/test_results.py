"""The verdict of a page fails closed, and its two forms say the same."""

from __future__ import annotations

import pytest

from pytest_specdec.common.errors import MeasurementError, RequestError, UnsupportedError
from pytest_specdec.engines.servers.client import ServerError
from pytest_specdec.output import checks
from pytest_specdec.output.differences import (
    context_lines,
    first_difference,
    shown_around,
    token_lines,
)
from pytest_specdec.output.page import lines, markdown
from pytest_specdec.output.results import OutputReport, OutputResult, failed, passed, unchecked
from pytest_specdec.output.subject import OutputSubject


def report(*results: OutputResult, required: frozenset[str] = frozenset()) -> OutputReport:
    return OutputReport(subject="here", results=results, required=required)


OK, OPEN = passed("endings", "fine"), unchecked("texts", "no weights; name them")
BAD = failed("streams", "it differs", ["whole: a⟦b", "streamed: a⟦c"])


@pytest.mark.parametrize(
    ("found", "status", "message"),
    [
        (report(OK), 0, "1 check ok; nothing to do"),
        (report(OK, OPEN), 0, "1 check ok; nothing to do"),
        (report(OPEN), 3, "texts: no weights; name them"),
        (report(), 3, "too little was checked: nothing; nothing to do"),
        (report(OK, OPEN, required=frozenset({"texts"})), 3, "texts: no weights; name them"),
        (report(OK, BAD, OPEN), 1, "streams: it differs (whole: a⟦b; streamed: a⟦c)"),
    ],
)
def test_nothing_checked_is_not_green(found: OutputReport, status: int, message: str) -> None:
    assert (found.status, found.right, found.message) == (status, status == 0, message)


def test_a_page_has_the_first_divergence_in_both_forms() -> None:
    found = report(OK, BAD, OPEN)
    printed = list(lines(found))
    assert printed[0] == "here"
    assert any(line.split() == ["whole:", "a⟦b"] for line in printed)
    assert printed[-1] == "check-engine: 1 of 2 checks failed (exit status 1)"
    page = markdown(found)
    assert "| streams | failed | it differs |" in page
    assert "    streamed: a⟦c" in page
    assert page.endswith("**1 of 2 checks failed** (exit status 1)\n")


def test_what_an_engine_returns_cannot_draw_on_the_terminal_or_the_page() -> None:
    hostile = report(failed("texts", "a\x1b[31m|<b>", ["c\x1b[2J"]))
    assert "\x1b" not in "\n".join(lines(hostile)) + markdown(hostile)
    assert "\\|&lt;b&gt;" in markdown(hostile)


def error(status: int | None) -> ServerError:
    fault = ServerError("http://here: HTTP; cure")
    fault.status = status
    return fault


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (RequestError("a; b"), "not checked"),
        (UnsupportedError("a; b"), "not checked"),
        (error(404), "not checked"),
        (error(None), "failed"),
        (error(500), "failed"),
        (MeasurementError("a; b"), "failed"),
    ],
)
def test_an_error_is_a_line_of_the_page(
    raised: Exception, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(subject: OutputSubject) -> OutputResult:
        raise raised

    monkeypatch.setattr(checks, "CHECKS", {"streams": check})
    found = checks.examined(OutputSubject(name="x", prompts=(), new_tokens=8))
    assert [result.outcome.value for result in found.results] == [outcome]
    assert found.results[0].words == str(raised)


def test_differences_are_where_texts_part_or_one_of_them_ends() -> None:
    assert first_difference("abc", "abd") == 2
    assert first_difference("abc", "ab") == 2
    assert first_difference("abc", "abc") is None
    assert shown_around("x" * 40 + "y\nz", 40) == "..." + "x" * 24 + "⟦y\\nz"
    assert context_lines("ab", "ac", names=("one", "other")) == ("one: a⟦b", "other: a⟦c")
    assert token_lines([1, 2], [1], names=("one", "other")) == ("one: 1 ⟦2", "other: 1 ⟦end")
