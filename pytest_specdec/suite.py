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
from .baselines.schema import SCHEMA, Conditions, Record, dumps, prompt_counts
from .baselines.store import BaselineStore
from .engines.protocol import Engine, Measurement
from .errors import CostError
from .gate.explain import explain, headline
from .gate.verdict import Verdict, judge
from .report.row import Row, plain
from .speedup.costs import CostProfile
from .speedup.model import theoretical_speedup

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


class Metric(float):
    """A metric's value; `==` with the other side's metric is a judgement by the gate, everything else is a float's."""

    name: str
    side: Run | Baseline

    def __new__(cls, value: float, name: str, side: Run | Baseline) -> Metric:
        self = super().__new__(cls, value)
        self.name, self.side = name, side
        return self

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Metric) and {type(self.side), type(other.side)} == {Run, Baseline}:
            if self.name != other.name:
                raise TypeError(f"{self.name} is compared with {other.name}; compare a metric with itself")
            baseline = self.side if isinstance(self.side, Baseline) else other.side
            assert isinstance(baseline, Baseline)
            return baseline.accepts(self.name)
        return float(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = float.__hash__


class _Side:
    """What a run and a baseline have in common: metrics of counts."""

    counts: Counts | None
    costs: CostProfile | None
    case: Case

    def _metric(self, name: str) -> Metric:
        value = math.nan if self.counts is None else _value(self.case, self.counts, self.costs, name)
        assert isinstance(self, Run | Baseline)
        return Metric(value, name, self)

    @property
    def acceptance_rate(self) -> Metric:
        return self._metric("acceptance_rate")

    @property
    def acceptance_length(self) -> Metric:
        return self._metric("acceptance_length")

    @property
    def speedup(self) -> Metric:
        """Theoretical speed-up under the case's cost profile; nan without one."""
        return self._metric("speedup")

    @property
    def expected_accepted(self) -> float:
        return math.nan if self.counts is None else self.counts.expected_accepted


class Run(_Side):
    """What this session measured for a case. `run == baseline` asks the gate."""

    def __init__(self, case: Case, measurement: Measurement, engine: str, costs: CostProfile | None) -> None:
        self.case, self.measurement, self.costs = case, measurement, costs
        self.counts: Counts = measurement.counts
        self.record = _record(case, measurement, engine)

    def __eq__(self, other: object) -> bool:
        return other.accepts("acceptance_length") if isinstance(other, Baseline) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<run {self.case.id}: acceptance length {self.counts.acceptance_length:.4f}>"


class Baseline(_Side):
    """The stored record of a case, or the place where one is missing."""

    def __init__(self, case: Case, record: Record | None, costs: CostProfile | None, judge: Callable[[str], bool]) -> None:
        self.case, self.record, self.costs = case, record, costs
        self.counts = None if record is None else record.as_counts()
        self.accepts = judge
        """Judge the session's run by one metric."""

    def __eq__(self, other: object) -> bool:
        return self.accepts("acceptance_length") if isinstance(other, Run) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<baseline {self.case.id}{'' if self.record else ' (missing)'}>"


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
        self.run = functools.cache(self._run)
        self.baseline = functools.cache(self._baseline)

    def _run(self, case: Case) -> Run:
        return Run(case, self.engine.measure(case), self.engine.name, self.costs(case))

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
        return Verdict("pass", metric, "baseline created", now=_value(case, run.counts, run.costs, metric))

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
            values = [_value(case, counts, run.costs, metric) for counts in (verdict.pair.before, verdict.pair.now)]
            if math.isnan(values[0]):
                return Verdict(
                    "error", metric, f"the cost profile does not cover k={case.k}, depth={case.depth}; measure one that does"
                )
            verdict = dataclasses.replace(verdict, before=values[0], now=values[1])
        if self.policy.rewrites() and not self.policy.subset and dumps(before) != dumps(run.record):
            if not run.counts.expected_accepted > 0:
                return Verdict("error", metric, _DEAD_DRAFTER)
            self._queue(run, before)
            return dataclasses.replace(verdict, outcome="pass", reason="baseline updated")
        return verdict

    def _queue(self, run: Run, before: Record | None) -> None:
        """Keep the new record, and its texts where the stored ones are missing or go with the old records."""
        self.pending[self.store.record_path(run.case)] = dumps(run.record)
        path = self.store.texts_path(run.case.texts)
        stored = self.store.texts(run.case.texts)
        texts = dumps(run.measurement.texts)
        if stored is None or (before is not None and texts != dumps(stored)):
            self.pending[path] = texts

    def verdict(self, case: Case) -> Verdict | None:
        """The gravest verdict on a case so far."""
        found = self.verdicts.get(case.id, {}).values()
        order = ("pass", "improved", "inconclusive", "regressed", "error")
        return max(found, key=lambda verdict: order.index(verdict.outcome), default=None)

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

    def row(self, case: Case, failure: str | None = None) -> Row:
        """The case as reports show it; `failure` says why there is no run."""
        run = None if failure is not None else self.run(case)
        verdict = self.verdict(case)
        counts, costs = (run.counts, run.costs) if run else (None, self.costs(case))
        before = self.baseline(case) if run else None
        row: Row = {
            "id": case.id,
            "suite": case.suite,
            "target": case.target,
            "drafter": case.drafter,
            "k": case.k,
            "depth": case.depth,
            "rule": case.rule,
            "temperature": case.temperature,
            "engine": self.engine.name,
            "definition": DEFINITION,
            "prompts": len(counts.prompts) if counts else 0,
            "rounds": plain(counts.total_rounds) if counts else None,
            "acceptance_rate": plain(counts.acceptance_rate) if counts else None,
            "expected_accepted": plain(counts.expected_accepted) if counts else None,
            "acceptance_length": plain(counts.acceptance_length) if counts else None,
            "survival": [plain(value) for value in counts.survival] if counts else [],
            "conditional": [plain(value) for value in counts.conditional] if counts else [],
            "efficiency": plain(counts.efficiency) if counts else None,
            **_times(case, costs),  # type: ignore[typeddict-item]
            "speedup": plain(_value(case, counts, costs, "speedup")) if counts else None,
            "categories": {name: plain(own.acceptance_length) for name, own in counts.by_category().items()} if counts else {},
            "baseline": _baseline_values(before) if before else {},
            "drop": plain(verdict.drop) if verdict else None,
            "smallest_detectable_drop": plain(verdict.smallest_detectable_drop) if verdict else None,
            "p_value": plain(verdict.p_value) if verdict else None,
            "verdict": "error" if failure is not None else self._word(case, verdict),
            "reason": failure or (verdict.reason if verdict else ""),
            "changed": list(verdict.changed) if verdict else [],
        }
        return row

    def _word(self, case: Case, verdict: Verdict | None) -> str:
        if verdict is None:
            return "not judged"
        return {"baseline created": "new", "baseline updated": "updated"}.get(verdict.reason, verdict.outcome)


@functools.cache
def _load_costs(path: Path) -> CostProfile:
    return CostProfile.load(path)


def _record(case: Case, measurement: Measurement, engine: str) -> Record:
    conditions = Conditions(
        k=case.k,
        depth=case.depth,
        drafter="mtp" if case.uses_own_heads else "draft",
        engine=engine,
        rule=case.rule,
        temperature=case.temperature,
        top_k=0,
        top_p=1.0,
        new_tokens=case.texts.new_tokens,
        tokenizer=measurement.tokenizer,
        template=measurement.template,
    )
    counts = prompt_counts(measurement.counts, measurement.text_fingerprints)
    return Record(SCHEMA, DEFINITION, conditions, measurement.fingerprints, measurement.environment, 1, counts)


def _times(case: Case, costs: CostProfile | None) -> dict[str, float | None]:
    """target_ms, verify_ms and draft_ms of a case, None where the profile is silent."""
    try:
        if costs is None:
            raise CostError("no profile")
        verify, draft = costs.verify_ms(case.k), costs.draft_ms(case.k, case.depth, own_heads=case.uses_own_heads)
        return {"target_ms": costs.target_ms, "verify_ms": verify, "draft_ms": draft}
    except CostError:
        return {"target_ms": None, "verify_ms": None, "draft_ms": None}


def _value(case: Case, counts: Counts, costs: CostProfile | None, metric: str) -> float:
    if metric != "speedup":
        value: float = getattr(counts, metric)
        return value
    times: dict[str, Any] = _times(case, costs)
    return math.nan if None in times.values() else theoretical_speedup(counts.acceptance_length, **times)


def _baseline_values(baseline: Baseline) -> dict[str, Any]:
    if baseline.record is None or baseline.counts is None:
        return {}
    counts = baseline.counts
    return {
        "rounds": plain(counts.total_rounds),
        "acceptance_rate": plain(counts.acceptance_rate),
        "expected_accepted": plain(counts.expected_accepted),
        "acceptance_length": plain(counts.acceptance_length),
        "survival": [plain(value) for value in counts.survival],
        "speedup": plain(float(baseline.speedup)),
        "repeats": baseline.record.repeats,
    }
