"""The checks of an engine's output on one page: for a terminal, and as Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterator

from ..common.printable import printable
from ..report.layout import wrapped
from .results import OutputReport, OutputResult

_NAME = 13
"""Columns of a check's name."""
_OUTCOME = 13


def lines(report: OutputReport) -> Iterator[str]:
    """Lines of at most 80 columns, the verdict last."""
    yield from wrapped(printable(report.subject))
    yield ""
    for result in report.results:
        yield from _lines(result)
    yield ""
    yield last_line(report)


def last_line(report: OutputReport) -> str:
    """The verdict with its exit status, for the end of a log."""
    return f"check-engine: {printable(report.verdict)} (exit status {report.status})"


def markdown(report: OutputReport) -> str:
    """The same as a Markdown page."""
    rows = [
        "# Output of an engine",
        "",
        _escaped(report.subject),
        "",
        "| check | outcome | found |",
        "|---|---|---|",
        *(
            f"| {_escaped(result.name)} | {result.outcome.value} | {_escaped(result.words)} |"
            for result in report.results
        ),
        "",
    ]
    for result in report.failures:
        if result.context:
            rows += [f"First divergence of *{_escaped(result.name)}*:", ""]
            rows += [f"    {printable(line)}" for line in result.context]
            rows.append("")
    return "\n".join([*rows, f"**{_escaped(report.verdict)}** (exit status {report.status})", ""])


def _lines(result: OutputResult) -> Iterator[str]:
    head = f"{result.name:{_NAME}}{result.outcome.value:{_OUTCOME}}"
    indent = " " * len(head)
    first, *rest = wrapped(f"{head}{printable(result.words)}", indent=indent)
    yield first
    yield from rest
    for line in result.context:
        yield from wrapped(f"{indent}{printable(line)}", indent=f"{indent}  ")


def _escaped(text: str) -> str:
    plain = html.escape(printable(text), quote=False)
    return "".join(f"\\{letter}" if letter in "|[`*_" else letter for letter in plain)
