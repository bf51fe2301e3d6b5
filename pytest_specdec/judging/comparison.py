"""The two sides of `assert specdec_run == specdec_baseline`: what was measured and what is
stored.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ..acceptance.counts import Counts
from ..acceptance.scores import SMOOTHING
from ..cases.case import Case
from ..common.printable import printable
from ..engines.protocol import MeasuredTimes, Measurement
from ..gate.accumulation import EarlierRun
from ..records.case_costs import CaseCosts
from ..records.conditions import Conditions
from ..records.measured import MeasuredCase, MeasuredRun
from ..records.record import Record
from ..records.same_contexts import SameContexts


class Metric(float):
    """A metric's value. `==` with the same metric of the other side is a judgement by the gate; in
    all else it is a float.
    """

    name: str
    side: Run | Baseline

    def __new__(cls, value: float, name: str, side: Run | Baseline) -> Metric:
        self = super().__new__(cls, value)
        self.name, self.side = name, side
        return self

    def __eq__(self, other: object) -> bool:
        equal = self._judged(other, differs=False)
        return float(self) == other if equal is None else equal

    def __ne__(self, other: object) -> bool:
        equal = self._judged(other, differs=True)
        return float(self) != other if equal is None else not equal

    __hash__ = float.__hash__

    def _judged(self, other: object, *, differs: bool) -> bool | None:
        """Whether the gate takes both sides as equal; None where it has nothing to judge."""
        if not isinstance(other, Metric):
            return None
        sides = run_and_baseline(self.side, other.side)
        if sides is None:
            return None
        if self.name != other.name:
            raise TypeError(
                f"{self.name} is compared with {other.name}; compare a metric with itself"
            )
        run, baseline = sides
        return baseline.judge.passes(run, baseline, self.name, differs=differs)


class Judge(Protocol):
    """What a baseline is compared by."""

    def passes(self, run: Run, baseline: Baseline, metric: str, *, differs: bool) -> bool:
        """Whether the gate passes one metric of the run; `differs` where the test expects a
        difference (`!=`), and so has seen one.
        """


class ComparedRecord:
    """What a run and a baseline have in common: metrics of counts."""

    case: Case
    counts: Counts | None
    costs: CaseCosts | None

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
        measurements: Sequence[Measurement],
        *,
        engine: str,
        costs: CaseCosts | None = None,
        seed: int | None = None,
    ) -> None:
        """`seed` is that of the first measurement's texts; None for the case's own."""
        self.case, self.measurements, self.costs = case, tuple(measurements), costs
        self.counts: Counts = functools.reduce(
            Counts.merge, (measurement.counts for measurement in measurements)
        )
        self.measured = _measured(
            case, self.measurements, engine, case.texts.seed if seed is None else seed
        )
        """As the gate judges it: with the rounded counts that would be stored."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Baseline):
            return NotImplemented
        return other.judge.passes(self, other, "acceptance_length", differs=False)

    def __ne__(self, other: object) -> bool:
        if not isinstance(other, Baseline):
            return NotImplemented
        return not other.judge.passes(self, other, "acceptance_length", differs=True)

    __hash__ = None  # type: ignore[assignment]

    @functools.cached_property
    def record(self) -> Record:
        """As it would be stored, with the contexts that a changed target is compared in."""
        runs = [
            dataclasses.replace(run, contexts=_contexts(measurement)).rounded()
            for run, measurement in zip(self.measured.runs, self.measurements, strict=True)
        ]
        measured = dataclasses.replace(self.measured, runs=tuple(runs))
        return Record.of(measured, case=self.case.name, costs=self.costs)

    def stored_contexts(self) -> list[SameContexts] | None:
        """This pair in the contexts of the stored texts of another target, of each run whose texts
        are stored; None where that cannot be measured.
        """
        contexts = [
            None if measurement.stored_contexts is None else measurement.stored_contexts()
            for measurement in self.measurements
        ]
        known = [run for run in contexts if run is not None]
        return known or None

    @property
    def times(self) -> MeasuredTimes | None:
        """What decoding took; None for an engine that decodes nothing."""
        return self.measurements[0].times

    def __repr__(self) -> str:
        return printable(
            f"<run {self.case.id}: acceptance length {self.counts.acceptance_length:.4f}>"
        )


class Baseline(ComparedRecord):
    """The stored record of a case, or none where it is missing, and the judge that compares runs
    with it.
    """

    def __init__(
        self,
        case: Case,
        record: Record | None,
        *,
        path: Path,
        judge: Judge,
        costs: CaseCosts | None = None,
        earlier: Sequence[EarlierRun] = (),
    ) -> None:
        """`costs` are the session's, for a record that holds none; `earlier` are the runs that were
        accumulated against the record.
        """
        self.case, self.record, self.path, self.judge = case, record, path, judge
        self.costs = costs if record is None or record.costs is None else record.costs
        self.earlier = tuple(earlier)
        self.measured = None if record is None else record.as_measured()
        self.counts = None if self.measured is None else self.measured.counts

    def __eq__(self, other: object) -> bool:
        return other == self if isinstance(other, Run) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return other != self if isinstance(other, Run) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return printable(f"<baseline {self.case.id}{'' if self.record else ' (missing)'}>")


def run_and_baseline(left: object, right: object) -> tuple[Run, Baseline] | None:
    """The run and the baseline of a comparison, in whichever order; None for any other pair."""
    if isinstance(left, Run) and isinstance(right, Baseline):
        return left, right
    if isinstance(left, Baseline) and isinstance(right, Run):
        return right, left
    return None


def value_of(metric: str, counts: Counts, costs: CaseCosts | None) -> float:
    """A metric of counts; the speed-up is nan where there are no costs."""
    if metric != "speedup":
        value: float = getattr(counts, metric)
        return value
    return math.nan if costs is None else costs.speedup(counts.acceptance_length)


def _measured(
    case: Case, measurements: Sequence[Measurement], engine: str, seed: int
) -> MeasuredCase:
    first = measurements[0]
    runs = (
        MeasuredRun(
            counts=measurement.counts,
            text_fingerprints=measurement.text_fingerprints,
            smoothed=measurement.smoothed,
        ).rounded()
        for measurement in measurements
    )
    return MeasuredCase(
        definition=first.definition,
        conditions=_conditions(case, first, engine),
        fingerprints=first.fingerprints,
        environment=first.environment,
        runs=tuple(runs),
        seed=seed,
        smoothing=None if first.smoothed is None else SMOOTHING,
    )


def _conditions(case: Case, first: Measurement, engine: str) -> Conditions:
    if not case.describes_models:
        return Conditions(
            k=case.k,
            depth=None,
            drafter=str(case.drafter),
            engine=engine,
            rule=case.rule,
            temperature=None,
            top_k=None,
            top_p=None,
            new_tokens=None,
            tokenizer=first.tokenizer,
            template=first.template,
        )
    return Conditions(
        k=case.k,
        depth=case.depth,
        drafter=case.drafter_name,
        engine=engine if first.altered is None else f"{engine} ({first.altered})",
        rule=case.rule,
        temperature=case.temperature,
        top_k=case.texts.top_k,
        top_p=case.texts.top_p,
        new_tokens=case.texts.new_tokens,
        tokenizer=first.tokenizer,
        template=first.template,
        judged=None if case.judged is None else str(case.judged),
        processors=case.texts.processors_name,
        target_name=case.texts.target_name or None,
        template_flags=case.texts.flags_name,
        drafting=None if case.drafting.as_target else str(case.drafting),
        tree=None if case.tree is None else str(case.tree),
        batch=case.batch,
    )


def _contexts(measurement: Measurement) -> Counts | None:
    contexts = None if measurement.contexts is None else measurement.contexts()
    return None if contexts is None else contexts.counts
