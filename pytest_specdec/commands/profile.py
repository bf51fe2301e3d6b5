"""`profile`: a case of a .json report as `speculation_profile.json`, or beside one. Needs neither
models nor torch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..common.bounded_files import read_text
from ..common.errors import RequestError
from ..common.strict_json import JsonError, parse_json


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", type=Path, metavar="REPORT", help="a .json report")
    parser.add_argument("--case", metavar="ID", help="which case (default: the only one)")
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="draft_model, eagle3 and so on (default: the drafter's, if known)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to write the profile (default: standard output)",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PROFILE",
        help="gate the case against a published profile: exit status 0 where it accepts as much, "
        "1 where less, 3 where nobody can tell (default: write a profile)",
    )
    parser.add_argument(
        "--margin", type=float, default=0.01, help="relative drop that fails (default: 0.01)"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.01, help="false-alarm rate of the gate (default: 0.01)"
    )


def run(arguments: argparse.Namespace) -> int:
    from ..report.speculation_profile import method_of, speculation_profile

    rows = measured_rows(arguments.report)
    row = chosen_row(rows, arguments.case, arguments.report)
    if arguments.against is not None:
        return _gate(row, arguments)
    method = arguments.method or method_of(row)
    if method is None:
        raise RequestError(
            f"the report does not say how {row['drafter']} drafts; name it with "
            "--method=draft_model or --method=eagle3"
        )
    profile = speculation_profile(row, rows, method)
    text = json.dumps(profile, indent=2, allow_nan=False) + "\n"
    if arguments.output is None:
        print(text, end="")
        return 0
    from ..baselines.store import write_all

    write_all({arguments.output: text})
    return 0


def _gate(row: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Print the verdict on a case beside a profile; its exit status."""
    from ..common.printable import printable
    from ..report.profile_gate import judge_profile, read_profile

    if not (0 <= arguments.margin < 1 and 0 < arguments.alpha < 0.5):
        raise RequestError("--margin or --alpha is out of range; pass for example 0.01")
    profile = read_profile(arguments.against)
    verdict = judge_profile(row, profile, margin=arguments.margin, alpha=arguments.alpha)
    print(printable(f"{verdict.outcome}: {row['id']}: {verdict.message}"))
    return {"pass": 0, "regressed": 1, "inconclusive": 3}[verdict.outcome]


def measured_rows(path: Path) -> list[dict[str, Any]]:
    """The measured cases of a report. Raises RequestError for another file."""
    try:
        document = parse_json(read_text(path))
        rows = document["cases"] if document["schema"] == 1 else None
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except (JsonError, UnicodeDecodeError, KeyError, TypeError):
        rows = None
    if not isinstance(rows, list):
        raise RequestError(
            f"{path} is no report of schema 1; write one with --specdec-report=FILE.json"
        )
    for row in rows:
        _check_row(row, path)
    return [row for row in rows if row["rounds"] is not None and row["depth"] is not None]


def _check_row(row: object, path: Path) -> None:
    """Raises RequestError for a case that has not every field of a report, each of its type."""
    import msgspec

    from ..report.row import HTML_ONLY, ReportRow

    try:
        msgspec.convert(
            {**dict.fromkeys(HTML_ONLY, ()), **row} if type(row) is dict else row, ReportRow
        )
    except msgspec.ValidationError as error:
        raise RequestError(
            f"{path} holds a case that this version does not read ({str(error)[:200]}); write the "
            "report again"
        ) from None


def chosen_row(rows: list[dict[str, Any]], case: str | None, path: Path) -> dict[str, Any]:
    names = [row["id"] for row in rows]
    if case is None and len(rows) == 1:
        return rows[0]
    if case in names:
        return rows[names.index(case)]
    known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    problem = "several cases" if case is None else f"no measured case {case}"
    if not names:
        problem, known = "no measured case of known models", "none"
    raise RequestError(f"{path} has {problem}; pass --case with one of: {known}")
