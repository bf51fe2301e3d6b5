"""What the terminal shows before and after the tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.records import case, row
from helpers.session_parts import Terminal, settings

from pytest_specdec.cases.case import Case
from pytest_specdec.session.state import Outcome, SessionCases
from pytest_specdec.session.terminal import TerminalSummary


def summary(
    *,
    selected: tuple[Case, ...] = (),
    stored: tuple[Case, ...] = (),
    outcome: Outcome | None = None,
    counts_tests: set[str] | None = None,
    **options: Any,
) -> TerminalSummary:
    """All selected cases ask for a baseline, and those of `stored` have one."""
    cases = SessionCases(
        selected=list(selected),
        awaiting_baseline=set(selected),
        counts_tests=counts_tests or set(),
    )
    store = SimpleNamespace(has_record=lambda of: of in stored)
    config: Any = SimpleNamespace(option=SimpleNamespace(verbose=0))
    components: Any = SimpleNamespace(store=store)
    return TerminalSummary(config, settings(**options), cases, components, outcome or Outcome())


def shown(outcome: Outcome) -> Terminal:
    terminal: Any = Terminal()
    summary(outcome=outcome).pytest_terminal_summary(terminal)
    return terminal


def test_without_options_there_is_no_header() -> None:
    assert summary().pytest_report_header() is None


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"k": (4, 8)}, "specdec: k=4,8, replay on auto, float32, baselines in /root/baselines"),
        (
            {"depth": (0,), "engine": "decode", "device": "cpu", "update": "new"},
            "specdec: depth=0, decode on cpu, float32, baselines in /root/baselines, updating new",
        ),
        (
            {"baselines": Path("my\x1b[31m")},
            "specdec: replay on auto, float32, baselines in /root/my\\x1b[31m",
        ),
    ],
)
def test_the_header_names_what_is_given(options: dict[str, Any], header: str) -> None:
    assert summary(**options).pytest_report_header() == header


def test_gates_and_pairs_are_counted() -> None:
    cases = (case(k=4), case(k=8), case(drafter="/models/other"))
    (line,) = summary(selected=cases, stored=cases, alpha=0.05).pytest_report_collectionfinish()
    assert line == ("specdec: 3 gates on 2 pairs of models, false alarms at most 5.00 % in all")
    assert summary().pytest_report_collectionfinish() is None


def test_gates_on_counts_are_counted_too() -> None:
    (line,) = summary(counts_tests={"a", "b"}).pytest_report_collectionfinish()
    assert line == (
        "specdec: 2 gates on counts that tests hand over, false alarms at most 1.00 % in all"
    )
    mixed = summary(selected=(case(k=4),), stored=(case(k=4),), counts_tests={"a"})
    (line,) = mixed.pytest_report_collectionfinish()
    assert line == (
        "specdec: 1 gate on 1 pair of models and 1 gate on counts that tests hand over, false "
        "alarms at most 1.00 % in all"
    )


def test_missing_baselines_are_counted_unless_they_are_being_written() -> None:
    cases = (case(k=4), case(k=8))
    _, line = summary(selected=cases, stored=cases[:1]).pytest_report_collectionfinish()
    assert line.startswith("specdec: 1 of 2 cases has no baseline: it will be measured and fail;")
    _, line = summary(selected=cases).pytest_report_collectionfinish()
    assert line.startswith("specdec: 2 of 2 cases have no baseline: they will be measured and")
    assert len(summary(selected=cases, update="new").pytest_report_collectionfinish()) == 1


def test_nothing_is_shown_of_a_session_without_cases() -> None:
    assert shown(Outcome()).lines == []


def test_a_problem_is_shown_in_red() -> None:
    assert shown(Outcome(problem="cannot be \x1b[2J written")).lines == [
        ("ERROR: cannot be \\x1b[2J written", ("red",))
    ]


def test_notes_follow_the_table_and_verdicts_have_colours() -> None:
    regressed = row(id="text/a", verdict="regressed")
    terminal = shown(Outcome(rows={"text/a": regressed}, notes=["wrote a.json"]))
    assert terminal.lines[0] == ("speculative decoding", ("section",))
    assert terminal.lines[-1] == ("wrote a.json", ())
    assert [markup for line, markup in terminal.lines if line.endswith("regressed")] == [("red",)]
