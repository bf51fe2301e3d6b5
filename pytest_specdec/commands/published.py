"""`published`: acceptance that others published beside a case of a .json report. Needs neither
models nor torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .profile import chosen_row, measured_rows

if TYPE_CHECKING:
    from ..report.published import ReconciledRun

_NOTE = (
    "all are acceptance lengths with the bonus token; ours over all is the request length, which "
    "counts every pass of the target as published runs do; "
    "ours by category counts rounds with room for k drafts. Other targets, prompts and hardware "
    "make other numbers: nothing is judged"
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", type=Path, metavar="REPORT", help="a .json report")
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="a .json table of published runs, or answers of Spec-Bench (.jsonl)",
    )
    parser.add_argument("--case", metavar="ID", help="which case (default: the only one)")
    parser.add_argument(
        "--markdown",
        action="store_true",
        help="print the section as Markdown, for a report (default: a table for terminals)",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..common.printable import printable
    from ..report.published import read_published

    row = chosen_row(measured_rows(arguments.report), arguments.case, arguments.report)
    runs = [run for path in arguments.files for run in read_published(path)]
    write = _markdown if arguments.markdown else _lines
    print("\n".join(map(printable, write(row, runs))))
    return 0


def _cells(row: dict[str, Any], runs: Sequence[ReconciledRun]) -> list[tuple[str, ...]]:
    """A line for each category of any run, ours first."""
    names = dict.fromkeys(name for run in runs for name in run.categories)
    ours = row["categories"]
    lines = [
        ("all", _ours(row), *(_number(run.length) for run in runs)),
        *(
            (name, _number(ours.get(name)), *(_number(run.categories.get(name)) for run in runs))
            for name in names
        ),
    ]
    return [("category", "ours", *(run.name for run in runs)), *lines]


def _ours(row: dict[str, Any]) -> str:
    """The request length; where the engine does not give it, what there is."""
    if row["request_length"] is None:
        return f"{_number(row['acceptance_length'])} (rounds with room for k)"
    return _number(row["request_length"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _lines(row: dict[str, Any], runs: Sequence[ReconciledRun]) -> Iterator[str]:
    from ..report.layout import aligned, wrapped

    yield f"published runs beside {row['id']} (k {row['k']})"
    yield from (f"  {line}" for line in aligned(_cells(row, runs), left=(0,)))
    for run in runs:
        yield from wrapped(f"  {run.name}: {'; '.join(run.notes) or 'as published'}", indent="    ")
    yield from wrapped(_NOTE)


def _markdown(row: dict[str, Any], runs: Sequence[ReconciledRun]) -> Iterator[str]:
    from ..report.markdown import escaped_cell

    yield f"## Published runs beside {escaped_cell(row['id'])} (k {row['k']})"
    yield ""
    head, *lines = _cells(row, runs)
    for line in (head, ["---"] * len(head), *lines):
        yield f"| {' | '.join(map(escaped_cell, line))} |"
    yield ""
    for run in runs:
        notes = "; ".join(run.notes) or "as published"
        yield f"- {escaped_cell(run.name)}: {escaped_cell(notes)}"
    yield ""
    yield f"{_NOTE}."
