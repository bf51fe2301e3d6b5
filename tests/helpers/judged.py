"""The gate's judgement of stored records."""

from __future__ import annotations

from typing import Any

from pytest_specdec.gate.judge import judge
from pytest_specdec.gate.verdict import Verdict
from pytest_specdec.records.measured import MeasuredCase
from pytest_specdec.records.record import Record


def judge_records(
    now: Record | MeasuredCase, before: Record | MeasuredCase, **options: Any
) -> Verdict:
    """Judge one measurement by another; options are those of `judge`."""
    return judge(now=_measured(now), before=_measured(before), **options)


def _measured(of: Record | MeasuredCase) -> MeasuredCase:
    return of.as_measured() if isinstance(of, Record) else of
