"""A session's cases from request to verdict: each measured once, judged, and collected for the reports."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .acceptance.case import DEFINITION, Case
from .acceptance.counts import Counts
from .acceptance.prompts import read_prompts
from .baselines.schema import Record, dumps
from .baselines.store import BaselineStore
from .comparison import Baseline, Metric, Run, times_of, value_of
from .engines.protocol import Engine
from .gate.explain import explain, headline
from .gate.verdict import Verdict, judge
from .report.row import SEVERITY, Metrics, Row, plain
from .speedup.costs import CostProfile

_CREATED, _UPDATED = "baseline created", "baseline updated"
_DEAD_DRAFTER = "no draft token was ever accepted, and a dead drafter is no baseline; check the drafter"


@dataclasses.dataclass(frozen=True)
class Policy:
    """The options that decide verdicts and what is written."""

    alpha: float
    inconclusive: str
    update: str | None
    subset: bool
    """Whether fewer prompts than the baseline's were asked for."""

    def creates(self) -> bool:
        return self.update in ("new", "all")

    def rewrites(self) -> bool:
        return self.update in ("changed", "all")


class Suite:
    """The cases of a session. Measures lazily; keeps verdicts, messages and pending baseline files."""

    def __init__(
        self, plan: Sequence[Case], engine: Engine, store: BaselineStore, policy: Policy, name_update: Callable[[str], str]
    ) -> None:
        self.plan, self.engine, self.store, self.policy = tuple(plan), engine, store, policy
        self._name_update = name_update
        self.verdicts: dict[str, dict[str, Verdict]] = {}
        self.pending: dict[Path, str] = {}
        self._failures: list[list[str]] = []
        self._runs: dict[Case, Run] = {}
        self.baseline = functools.cache(self._baseline)

    def run(self, case: Case) -> Run:
        """The session's run of a case, measured on first use."""
        if case not in self._runs:
            self._runs[case] = Run(case, self.engine.measure(case), self.engine.name, self.costs(case))
        return self._runs[case]

    def measured(self, case: Case) -> bool:
        return case in self._runs

    def _baseline(self, case: Case) -> Baseline:
        return Baseline(case, self.store.record(case), self.costs(case), lambda metric: self.judge(case, metric))

    def costs(self, case: Case) -> CostProfile | None:
        return None if case.costs is None else _load_costs(case.costs)

    def judge(self, case: Case, metric: str) -> bool:
        """Judge one metric of a case, remember the verdict, queue what `--specdec-update` asks for."""
        run, before = self.run(case), self.baseline(case).record
        verdict = self._missing(case, metric) if before is None else self._compare(run, before, metric)
        self.verdicts.setdefault(case.id, {})[metric] = verdict
        passes = verdict.passes(self.policy.inconclusive)
        if not passes:
            self._failures.append(self._message(case, verdict))
        return passes

    def _missing(self, case: Case, metric: str) -> Verdict:
        run = self.run(case)
        if not self.policy.creates():
            return Verdict("error", metric, f"no baseline at {self.store.record_path(case)}; create it with --specdec-update=new")
        if not run.counts.expected_accepted > 0:
            return Verdict("error", metric, _DEAD_DRAFTER)
        self._queue(run, None)
        return Verdict("pass", metric, _CREATED, now=value_of(metric, case, run.counts, run.costs))

    def _compare(self, run: Run, before: Record, metric: str) -> Verdict:
        case = run.case
        verdict = judge(
            run.record,
            before,
            metric=metric,
            margin=case.margin,
            alpha=self.policy.alpha,
            gates=len(self.plan),
            subset=self.policy.subset,
        )
        if metric == "speedup" and verdict.pair is not None:
            if case.costs is None:
                return Verdict("error", metric, "no cost profile to compute a speed-up from; pass --specdec-costs=FILE")
            values = [value_of(metric, case, counts, run.costs) for counts in (verdict.pair.before, verdict.pair.now)]
            if math.isnan(values[0]):
                return Verdict(
                    "error", metric, f"the cost profile does not cover k={case.k}, depth={case.depth}; measure one that does"
                )
            verdict = dataclasses.replace(verdict, before=values[0], now=values[1])
        if self.policy.rewrites() and not self.policy.subset and dumps(before) != dumps(run.record):
            if not run.counts.expected_accepted > 0:
                return Verdict("error", metric, _DEAD_DRAFTER)
            self._queue(run, before)
            return dataclasses.replace(verdict, outcome="pass", reason=_UPDATED)
        return verdict

    def _queue(self, run: Run, before: Record | None) -> None:
        """Keep the new record, and its texts where the stored ones are missing or go with the old records."""
        self.pending[self.store.record_path(run.case)] = dumps(run.record)
        path = self.store.texts_path(run.case.texts)
        if run.measurement.texts is None:
            return
        stored = self.store.texts(run.case.texts)
        texts = dumps(run.measurement.texts)
        if stored is None or (before is not None and texts != dumps(stored)):
            self.pending[path] = texts

    def verdict(self, case: Case) -> Verdict | None:
        """The gravest verdict on a case so far."""
        found = self.verdicts.get(case.id, {}).values()
        return max(found, key=lambda verdict: SEVERITY.index(verdict.outcome), default=None)

    def take_failures(self) -> list[list[str]]:
        """The messages of the judgements that failed since the last call."""
        taken, self._failures = self._failures, []
        return taken

    def comparison(self, left: object, right: object) -> str | None:
        """The headline of a failed `==` between a run and a baseline, or a metric of each; None for anything else."""
        sides, metric = (left, right), "acceptance_length"
        if isinstance(left, Metric) and isinstance(right, Metric):
            sides, metric = (left.side, right.side), left.name
        if {type(side) for side in sides} != {Run, Baseline}:
            return None
        assert isinstance(sides[0], Run | Baseline)
        verdict = self.verdicts.get(sides[0].case.id, {}).get(metric)
        return None if verdict is None else headline(verdict)

    def _message(self, case: Case, verdict: Verdict) -> list[str]:
        return explain(
            verdict,
            case_id=case.id,
            update_command=self._name_update("changed" if self.baseline(case).record else "new"),
            prompt_names=self._prompt_names(case),
        )

    def _prompt_names(self, case: Case) -> Mapping[str, str]:
        prompts = read_prompts(case.texts.prompts, case.texts.prompt_limit)
        texts = {prompt.key: prompt.text or prompt.chat()[-1].get("content", "") for prompt in prompts}
        return {key: repr(text if len(text) <= 40 else text[:37] + "...") for key, text in texts.items()}

    def row(self, case: Case) -> Row:
        """A measured case as reports show it."""
        run, verdict = self.run(case), self.verdict(case)
        row: Row = {**empty_row(case, self.engine.name), **_metrics(case, run.counts, run.costs)}
        row["categories"] = {name: plain(own.acceptance_length) for name, own in run.counts.by_category().items()}
        row["baseline"] = self._baseline_metrics(case, verdict)
        if verdict is not None:
            row["drop"] = plain(verdict.drop)
            row["smallest_detectable_drop"] = plain(verdict.smallest_detectable_drop)
            row["p_value"] = plain(verdict.p_value)
            row["verdict"] = _WORDS.get(verdict.reason, verdict.outcome)
            row["reason"] = verdict.reason
            row["changed"] = list(verdict.changed)
        return row

    def _baseline_metrics(self, case: Case, verdict: Verdict | None) -> dict[str, Any]:
        """The baseline's metrics, of the prompts that were compared where the run has only some of them."""
        stored = self.baseline(case)
        counts = verdict.pair.before if verdict is not None and verdict.pair is not None else stored.counts
        if counts is None:
            return {}
        return {name: value for name, value in _metrics(case, counts, stored.costs).items() if name in _BASELINE_METRICS}


_WORDS = {_CREATED: "new", _UPDATED: "updated"}
"""Verdicts by reason, where the outcome alone says less."""
_BASELINE_METRICS = ("rounds", "acceptance_rate", "expected_accepted", "acceptance_length", "survival", "speedup")


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
        categories={},
        baseline={},
        drop=None,
        smallest_detectable_drop=None,
        p_value=None,
        verdict="not judged",
        reason="",
        changed=[],
    )


def failed_row(case: Case, engine: str, reason: str) -> Row:
    """The row of a case that could not be measured: an error, whatever its tests say."""
    return {**empty_row(case, engine), "verdict": "error", "reason": reason}


def _metrics(case: Case, counts: Counts, costs: CostProfile | None) -> Metrics:
    target_ms, verify_ms, draft_ms = times_of(case, costs)
    return Metrics(
        prompts=len(counts.prompts),
        rounds=plain(counts.total_rounds),
        acceptance_rate=plain(counts.acceptance_rate),
        expected_accepted=plain(counts.expected_accepted),
        acceptance_length=plain(counts.acceptance_length),
        survival=[plain(value) for value in counts.survival],
        conditional=[plain(value) for value in counts.conditional],
        efficiency=plain(counts.efficiency),
        target_ms=plain(target_ms),
        verify_ms=plain(verify_ms),
        draft_ms=plain(draft_ms),
        speedup=plain(value_of("speedup", case, counts, costs)),
    )


@functools.cache
def _load_costs(path: Path) -> CostProfile:
    return CostProfile.load(path)
