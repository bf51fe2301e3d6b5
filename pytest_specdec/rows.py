"""A measured case as reports show it."""

from __future__ import annotations

import math
from typing import Any

from .acceptance.case import DEFINITION, Case
from .acceptance.counts import Counts
from .baselines.schema import CaseCosts
from .comparison import Baseline, Run, value_of
from .gate.verdict import Verdict
from .report.row import Metrics, Row, plain
from .speedup.table import speedup_interval

CREATED, UPDATED = "baseline created", "baseline updated"
_WORDS = {CREATED: "new", UPDATED: "updated"}
"""Verdicts by reason, where the outcome alone says less."""
_BASELINE_METRICS = ("rounds", "acceptance_rate", "expected_accepted", "acceptance_length", "survival", "speedup")


def measured_row(run: Run, stored: Baseline, verdict: Verdict | None, engine: str) -> Row:
    """The row of a measured case."""
    case = run.case
    row: Row = {**empty_row(case, engine), **_metrics(run.counts, run.costs)}
    row["categories"] = {name: plain(own.acceptance_length) for name, own in run.counts.by_category().items()}
    row["baseline"] = _baseline_metrics(stored, verdict)
    if verdict is not None:
        row["drop"] = plain(verdict.drop)
        row["smallest_detectable_drop"] = plain(verdict.smallest_detectable_drop)
        row["p_value"] = plain(verdict.p_value)
        row["evidence"] = plain(verdict.evidence)
        row["verdict"] = _WORDS.get(verdict.reason, verdict.outcome)
        row["reason"] = verdict.reason
        row["changed"] = list(verdict.changed)
    return row


def empty_row(case: Case, engine: str) -> Row:
    """The row of a case of which nothing is known yet but what was asked for."""
    return Row(
        id=case.id,
        suite=case.suite,
        target=case.target,
        drafter=case.drafter,
        k=case.k,
        depth=case.depth,
        rule=case.rule,
        temperature=case.temperature,
        engine=engine,
        definition=DEFINITION,
        prompts=0,
        rounds=None,
        acceptance_rate=None,
        expected_accepted=None,
        acceptance_length=None,
        survival=[],
        conditional=[],
        efficiency=None,
        target_ms=None,
        verify_ms=None,
        draft_ms=None,
        speedup=None,
        acceptance_length_error=None,
        speedup_interval=[],
        categories={},
        baseline={},
        drop=None,
        smallest_detectable_drop=None,
        p_value=None,
        evidence=None,
        verdict="not judged",
        reason="",
        changed=[],
    )


def failed_row(case: Case, engine: str, reason: str) -> Row:
    """The row of a case that could not be measured: an error, whatever its tests say."""
    return {**empty_row(case, engine), "verdict": "error", "reason": reason}


def _baseline_metrics(stored: Baseline, verdict: Verdict | None) -> dict[str, Any]:
    """The baseline's metrics, of the prompts that were compared where the run has only some of them."""
    counts = verdict.pair.before if verdict is not None and verdict.pair is not None else stored.counts
    if counts is None:
        return {}
    return {name: value for name, value in _metrics(counts, stored.costs).items() if name in _BASELINE_METRICS}


def _metrics(counts: Counts, costs: CaseCosts | None) -> Metrics:
    speedup, error = value_of("speedup", counts, costs), counts.standard_error
    interval: tuple[float, ...] = ()
    if costs is not None and math.isfinite(speedup) and math.isfinite(error):
        interval = speedup_interval(speedup, counts.acceptance_length, error, costs.relative_error)
    return Metrics(
        prompts=len(counts.prompts),
        rounds=plain(counts.total_rounds),
        acceptance_rate=plain(counts.acceptance_rate),
        expected_accepted=plain(counts.expected_accepted),
        acceptance_length=plain(counts.acceptance_length),
        survival=[plain(value) for value in counts.survival],
        conditional=[plain(value) for value in counts.conditional],
        efficiency=plain(counts.efficiency),
        target_ms=plain(costs.target_ms if costs else None),
        verify_ms=plain(costs.verify_ms if costs else None),
        draft_ms=plain(costs.draft_ms if costs else None),
        speedup=plain(speedup),
        acceptance_length_error=plain(error),
        speedup_interval=[plain(bound) for bound in interval],
    )
