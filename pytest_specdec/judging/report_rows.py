"""A measured case as reports show it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..acceptance.counts import Array, Counts
from ..acceptance.first_rounds import Samples, Spread
from ..cases.case import DEFINITION, Case
from ..gate.verdict import Estimate, Verdict
from ..records.case_costs import CaseCosts
from ..records.record import Record
from ..records.replaced import Erosion
from ..report import row as report
from ..report.row import Metrics, ReportRow, plain
from ..speedup.table import speedup_interval
from .comparison import Baseline, Run, value_of

CREATED, UPDATED = "baseline created", "baseline updated"
_WORDS = {CREATED: "new", UPDATED: "updated"}
"""The verdict's word where the reason is more precise than the outcome."""
_WORST = 5
_BASELINE_METRICS = (
    "rounds",
    "acceptance_rate",
    "expected_accepted",
    "acceptance_length",
    "survival",
    "conditional",
    "survival_error",
    "conditional_error",
    "speedup",
)


def measured_row(
    run: Run,
    stored: Baseline,
    verdict: Verdict | None,
    engine: str,
    prompt_names: Mapping[str, str] | None = None,
    diagnosis: Sequence[str] = (),
) -> ReportRow:
    """The row of a measured case; `prompt_names` holds how each prompt begins, by key, and
    `diagnosis` is the message of a verdict that does not pass.
    """
    case = run.case
    row: ReportRow = {
        **empty_row(case, engine),
        **_metrics(run.counts, run.costs),
        **_by_category(run.counts),
    }
    row["environment"] = msgspec.structs.asdict(run.measured.environment)
    row["definition"] = run.measured.definition
    row["samples"] = _samples(run, prompt_names or {})
    row["notes"] = list(
        dict.fromkeys(note for measurement in run.measurements for note in measurement.notes)
    )
    row["chain"] = [] if stored.record is None else _chain(stored.record)
    row["baseline"] = _baseline_metrics(stored, verdict)
    if verdict is not None:
        row["drop"] = plain(verdict.drop)
        row["smallest_detectable_drop"] = plain(verdict.smallest_detectable_drop)
        row["p_value"] = plain(verdict.p_value)
        row["evidence"] = plain(verdict.evidence)
        row["evidence_limit"] = plain(verdict.evidence_limit)
        row["nights"] = [
            report.NightRow(
                length=plain(night.length),
                p_value=plain(night.p_value),
                evidence=plain(night.evidence),
            )
            for night in verdict.nights
        ]
        row["erosion"] = None if verdict.erosion is None else _erosion(verdict.erosion)
        row["verdict"] = _WORDS.get(verdict.reason, verdict.outcome)
        row["reason"] = verdict.reason
        row["diagnosis"] = list(diagnosis)
        row["changed"] = list(verdict.changed)
        row["regime"] = verdict.regime or ""
        row["estimate"] = _estimate(verdict.estimate)
    return row


def empty_row(case: Case, engine: str) -> ReportRow:
    """The row of a case of which only the request is known."""
    return ReportRow(
        id=case.id,
        suite=case.suite,
        target=case.target,
        drafter=str(case.drafter),
        k=case.k,
        depth=case.depth if case.describes_models else None,
        rule=case.rule,
        temperature=case.temperature if case.describes_models else None,
        engine=engine,
        judged="" if case.judged is None else str(case.judged),
        batch=case.batch,
        tree="" if case.tree is None else str(case.tree),
        definition=DEFINITION,
        candidate=None,
        axes=[],
        samples=None,
        attachments=[],
        token_texts=[],
        contexts=[],
        chain=[],
        prompts=0,
        rounds=None,
        acceptance_rate=None,
        expected_accepted=None,
        acceptance_length=None,
        survival=[],
        conditional=[],
        survival_error=[],
        conditional_error=[],
        efficiency=None,
        target_ms=None,
        verify_ms=None,
        draft_ms=None,
        speedup=None,
        tokens_per_second=None,
        acceptance_length_error=None,
        speedup_interval=[],
        request_length=None,
        request_speedup=None,
        request_speedup_interval=[],
        categories={},
        category_errors={},
        environment={},
        baseline={},
        drop=None,
        smallest_detectable_drop=None,
        p_value=None,
        evidence=None,
        evidence_limit=None,
        nights=[],
        erosion=None,
        verdict="not judged",
        regime="",
        estimate=None,
        reason="",
        diagnosis=[],
        checks=[],
        changed=[],
        notes=[],
    )


def _estimate(estimate: Estimate | None) -> report.EstimateRow | None:
    if estimate is None:
        return None
    return report.EstimateRow(
        name=estimate.name,
        before=plain(estimate.before),
        now=plain(estimate.now),
        drop=plain(estimate.drop),
        interval=[plain(bound) for bound in estimate.interval],
        effective_share=plain(estimate.effective_share),
        unseen=plain(estimate.unseen),
    )


def failed_row(case: Case, engine: str, reason: str) -> ReportRow:
    """The row of a case that could not be measured: an error, whatever its tests report."""
    return {**empty_row(case, engine), "verdict": "error", "reason": reason}


def _samples(run: Run, names: Mapping[str, str]) -> report.SamplesRow | None:
    """The first rounds of all runs; None where the engine keeps none."""
    parts = [
        measurement.samples for measurement in run.measurements if measurement.samples is not None
    ]
    if not parts:
        return None
    samples, counts = Samples.together(parts), run.measurements[0].counts
    categories = dict(zip(counts.prompts, counts.categories, strict=True))
    return report.SamplesRow(
        count=len(samples.prompts),
        rate=_spread(samples.rate),
        accepted=_spread(samples.accepted),
        drafted=_spread(samples.drafted),
        survival=[plain(value) for value in samples.survival.mean(axis=0)]
        if samples.prompts
        else [],
        worst=[
            report.Worst(
                prompt=prompt,
                text=names.get(prompt, prompt),
                category=categories[prompt],
                accepted=plain(accepted),
            )
            for prompt, accepted in samples.worst(_WORST)
        ],
    )


def _spread(values: Array) -> report.SpreadRow:
    spread = Spread.of(values)
    return report.SpreadRow(
        mean=plain(spread.mean),
        deviation=plain(spread.deviation),
        least=plain(spread.least),
        most=plain(spread.most),
    )


def _erosion(erosion: Erosion) -> report.ErosionRow:
    return report.ErosionRow(
        drop=plain(erosion.drop),
        best=plain(erosion.best),
        commit=erosion.commit,
        baselines=erosion.baselines,
        same_texts=erosion.same_texts,
        smoothed=erosion.smoothed,
    )


def _chain(record: Record) -> list[report.ChainRow]:
    """The baselines that a record replaced, and the record itself; empty where there were none."""
    current = record.as_replaced()
    chain = [*record.replaced, current] if record.replaced else []
    return [
        report.ChainRow(
            length=plain(known.acceptance_length),
            commit=known.commit,
            same_texts=known.texts is not None and known.texts == current.texts,
        )
        for known in chain
    ]


def _baseline_metrics(stored: Baseline, verdict: Verdict | None) -> dict[str, Any]:
    """The baseline's metrics; where the run has only some of its prompts, those of the prompts that
    were compared.
    """
    counts = (
        verdict.pair.before if verdict is not None and verdict.pair is not None else stored.counts
    )
    if counts is None:
        return {}
    metrics = _metrics(counts, stored.costs)
    known = {name: value for name, value in metrics.items() if name in _BASELINE_METRICS}
    return known | dict(_by_category(counts))


def _by_category(counts: Counts) -> report.ByCategory:
    """The acceptance length of each category of prompts, and its standard error."""
    parts = counts.by_category()
    return report.ByCategory(
        categories={name: plain(part.acceptance_length) for name, part in parts.items()},
        category_errors={name: plain(part.standard_error) for name, part in parts.items()},
    )


def _metrics(counts: Counts, costs: CaseCosts | None) -> Metrics:
    speedup, length = value_of("speedup", counts, costs), counts.request_length
    request_speedup = math.nan if costs is None else costs.speedup(length)
    return Metrics(
        prompts=len(counts.prompts),
        rounds=plain(counts.total_rounds),
        acceptance_rate=plain(counts.acceptance_rate),
        expected_accepted=plain(counts.expected_accepted),
        acceptance_length=plain(counts.acceptance_length),
        survival=[plain(value) for value in counts.survival],
        conditional=[plain(value) for value in counts.conditional],
        survival_error=[plain(value) for value in counts.survival_error],
        conditional_error=[plain(value) for value in counts.conditional_error],
        efficiency=plain(counts.efficiency),
        target_ms=plain(costs.target_ms if costs else None),
        verify_ms=plain(costs.verify_ms if costs else None),
        draft_ms=plain(costs.draft_ms if costs else None),
        speedup=plain(speedup),
        tokens_per_second=plain(
            costs.tokens_per_second(counts.acceptance_length) if costs else None
        ),
        acceptance_length_error=plain(counts.standard_error),
        speedup_interval=_interval(speedup, counts.acceptance_length, counts.standard_error, costs),
        request_length=plain(length),
        request_speedup=plain(request_speedup),
        request_speedup_interval=_interval(request_speedup, length, counts.request_error, costs),
    )


def _interval(
    speedup: float, length: float, error: float, costs: CaseCosts | None
) -> list[report.Number]:
    """95 %; empty where it is unknown."""
    if costs is None or not (math.isfinite(speedup) and math.isfinite(error)):
        return []
    return [
        plain(bound) for bound in speedup_interval(speedup, length, error, costs.relative_error)
    ]
