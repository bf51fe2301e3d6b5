"""What JUnit files say of a case: properties for machines, and words for people."""

from __future__ import annotations

from collections.abc import Iterator

from ..common.percent import percent, signed_percent
from .row import Number, ReportRow
from .table import judged_drop

_METRICS = (
    "acceptance_length",
    "acceptance_rate",
    "speedup",
    "request_speedup",
    "p_value",
    "smallest_detectable_drop",
)


def properties(row: ReportRow) -> list[tuple[str, str | float]]:
    """Names, all with `specdec_` in front, and values of what is known; drops are relative."""
    found: dict[str, str | Number] = {
        "case": row["id"],
        "verdict": row["verdict"],
        "regime": row["regime"],
        **{name: row[name] for name in _METRICS},  # type: ignore[literal-required]
        "baseline_acceptance_length": row["baseline"].get("acceptance_length"),
        "drop": judged_drop(row),
        "reason": row["reason"],
    }
    return [(f"specdec_{name}", value) for name, value in found.items() if value not in (None, "")]


def output(row: ReportRow) -> str:
    """The case in a few lines, and the diagnosis of a failed gate as the terminal shows it."""
    return "\n".join([*_lines(row), *row["diagnosis"]]) + "\n"


def _lines(row: ReportRow) -> Iterator[str]:
    yield f"{row['id']}: {row['verdict']}"
    drop, before = judged_drop(row), row["baseline"].get("acceptance_length")
    if row["acceptance_length"] is not None:
        change = "" if drop is None else f", change {signed_percent(-drop)}"
        known = "" if before is None else f", baseline {before:.4f}"
        yield f"acceptance length {row['acceptance_length']:.4f}{known}{change}"
    if row["acceptance_rate"] is not None:
        yield f"acceptance rate {percent(row['acceptance_rate'])}"
    if row["speedup"] is not None:
        yield f"theoretical speed-up {row['speedup']:.3f}x"
    if row["reason"] and not row["diagnosis"]:
        yield row["reason"]
    yield from (
        f"{check['name']} {'holds' if check['passes'] else 'is violated'}: {check['message']}"
        for check in row["checks"]
    )
