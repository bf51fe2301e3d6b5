"""The two sides of `assert specdec_run == specdec_baseline`: what was measured and what is
stored.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Protocol

from ..acceptance.counts import Counts
from ..baselines.schema import SCHEMA, CaseCosts, Conditions, Record, prompt_counts
from ..cases.case import LOOKUP, Case
from ..common.errors import CostError
from ..common.printable import printable
from ..engines.protocol import MeasuredTimes, Measurement
from ..speedup.cost_profile import CostProfile


class Metric(float):
    """A metric's value; `==` with the other side's metric is a judgement by the gate, everything
    else is a float's.
    """

    name: str
    side: Run | Baseline

    def __new__(cls, value: float, name: str, side: Run | Baseline) -> Metric:
        self = super().__new__(cls, value)
        self.name, self.side = name, side
        return self

    def __eq__(self, other: object) -> bool:
        found = self._judged(other, differs=False)
        return float(self) == other if found is None else found

    def __ne__(self, other: object) -> bool:
        found = self._judged(other, differs=True)
        return float(self) != other if found is None else not found

    __hash__ = float.__hash__

    def _judged(self, other: object, *, differs: bool) -> bool | None:
        """Whether the gate takes both sides as equal; None where it has nothing to judge."""
        if not isinstance(other, Metric) or {type(self.side), type(other.side)} != {Run, Baseline}:
            return None
        if self.name != other.name:
            raise TypeError(
                f"{self.name} is compared with {other.name}; compare a metric with itself"
            )
        run, baseline = (
            (self.side, other.side) if isinstance(self.side, Run) else (other.side, self.side)
        )
        assert isinstance(run, Run)
        assert isinstance(baseline, Baseline)
        return baseline.judge(run, self.name, differs=differs)


class Judge(Protocol):
    """The gate: judges one metric of a run against the baseline of a case."""

    def __call__(self, run: Run, case: Case, metric: str, *, differs: bool) -> bool:
        """Whether the run passes; `differs` where the test asks for a difference (`!=`), and so has
        seen one.
        """


class ComparedRecord:
    """What a run and a baseline have in common: metrics of counts."""

    counts: Counts | None
    costs: CaseCosts | None
    case: Case

    def _metric(self, name: str) -> Metric:
        value = math.nan if self.counts is None else value_of(name, self.counts, self.costs)
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
        """Theoretical speed-up: a run's under the session's cost profile, a baseline's under its
        own; nan without one.
        """
        return self._metric("speedup")

    @property
    def expected_accepted(self) -> float:
        return math.nan if self.counts is None else self.counts.expected_accepted


class Run(ComparedRecord):
    """What this session measured for a case, repeats added up. `run == baseline` asks the gate."""

    def __init__(
        self,
        case: Case,
        measurement: Measurement,
        engine: str,
        costs: CaseCosts | None,
        again: Sequence[Measurement] = (),
        seed: int | None = None,
    ) -> None:
        self.case, self.measurements, self.costs = case, (measurement, *again), costs
        seed = case.texts.seed if seed is None else seed
        self.counts: Counts = functools.reduce(
            Counts.merge, (one.counts for one in self.measurements)
        )
        self.record = _record(case, self.measurements, engine, costs, seed)

    def __eq__(self, other: object) -> bool:
        return (
            other.judge(self, "acceptance_length")
            if isinstance(other, Baseline)
            else NotImplemented
        )

    def __ne__(self, other: object) -> bool:
        return (
            not other.judge(self, "acceptance_length", differs=True)
            if isinstance(other, Baseline)
            else NotImplemented
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def times(self) -> MeasuredTimes | None:
        """What decoding took; None for an engine that decodes nothing."""
        return self.measurements[0].times

    def __repr__(self) -> str:
        return printable(
            f"<run {self.case.id}: acceptance length {self.counts.acceptance_length:.4f}>"
        )


class Baseline(ComparedRecord):
    """The stored record of a case, or the place where one is missing."""

    def __init__(
        self, case: Case, record: Record | None, costs: CaseCosts | None, judge: Judge
    ) -> None:
        self.case, self.record, self._judge = case, record, judge
        self.costs = costs if record is None or record.costs is None else record.costs
        self.counts = None if record is None else record.as_counts()

    def judge(self, run: Run, metric: str, *, differs: bool = False) -> bool:
        """Whether the gate passes a run by one metric."""
        return self._judge(run, self.case, metric, differs=differs)

    def __eq__(self, other: object) -> bool:
        return self.judge(other, "acceptance_length") if isinstance(other, Run) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return (
            not self.judge(other, "acceptance_length", differs=True)
            if isinstance(other, Run)
            else NotImplemented
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return printable(f"<baseline {self.case.id}{'' if self.record else ' (missing)'}>")


def value_of(metric: str, counts: Counts, costs: CaseCosts | None) -> float:
    """A metric of counts; the speed-up is nan where there are no costs."""
    if metric != "speedup":
        value: float = getattr(counts, metric)
        return value
    return math.nan if costs is None else costs.speedup(counts.acceptance_length)


def costs_of(case: Case, profile: CostProfile | None) -> CaseCosts | None:
    """What a round of a case takes; None where the profile is silent."""
    if profile is None:
        return None
    try:
        verify = profile.verify_ms(case.verified)
        draft = profile.draft_ms(
            case.drafted, case.depth, own_heads=case.uses_own_heads, lookup=case.drafter == LOOKUP
        )
    except CostError:
        return None
    error = round(profile.relative_error, 6)
    return CaseCosts(
        profile.target_ms, verify, draft, error, profile.samples, profile.machine, profile.software
    )


def _record(
    case: Case, measurements: Sequence[Measurement], engine: str, costs: CaseCosts | None, seed: int
) -> Record:
    measurement = measurements[0]
    conditions = Conditions(
        k=case.k,
        depth=case.depth,
        drafter=case.drafter_name,
        engine=engine if measurement.altered is None else f"{engine} ({measurement.altered})",
        rule=case.rule,
        temperature=case.temperature,
        top_k=case.texts.top_k,
        top_p=case.texts.top_p,
        new_tokens=case.texts.new_tokens,
        tokenizer=measurement.tokenizer,
        template=measurement.template,
        judged=None if case.judged is None else str(case.judged),
    )
    runs = [prompt_counts(one.counts, one.text_fingerprints) for one in measurements]
    return Record(
        schema=SCHEMA,
        definition=measurement.definition,
        conditions=conditions,
        fingerprints=measurement.fingerprints,
        environment=measurement.environment,
        repeats=len(runs),
        counts=runs[0],
        again=tuple(runs[1:]),
        costs=costs,
        case=case.name,
        seed=seed,
    )
