"""What a run is worth against a baseline, and what becomes of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

from ..baselines.repeats import accumulates
from ..cases.case import Case
from ..cases.drafter import RegisteredSpec
from ..common.errors import RequestError
from ..gate.accumulation import judge_accumulated
from ..gate.erosion import erosion_of, judge_erosion
from ..gate.judge import judge
from ..gate.refusals import (
    below_lookup,
    dead_drafter,
    looping_texts,
    no_better,
    same_model,
    too_good,
)
from ..gate.session_test import SessionTest
from ..gate.speedup_gate import judge_speedup
from ..gate.verdict import Verdict
from ..records.measured import MeasuredCase
from ..records.record import Record
from .comparison import Baseline, Run, value_of
from .costs import SessionCosts
from .family import Comparisons, family_of
from .measurements import Measurements
from .policy import Policy
from .report_rows import CREATED, UPDATED

Stored = Literal["nothing", "missing token maps", "record"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict, and what is stored with it."""

    verdict: Verdict
    stores: Stored = "nothing"
    p_value: float | None = None
    """With which the run is accumulated; None where it is not."""
    warning: str | None = None
    """What readers should know of the new baseline."""


class Decider:
    """Decides on a run and a baseline and changes neither: levels, margins and refusals of one
    session.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        gates: int,
        cases: Collection[Case],
        measurements: Measurements,
        comparisons: Comparisons,
    ) -> None:
        """`gates` judgements of the `cases` other than candidates share the session's
        false-alarm rate; `comparisons` also measures cases that no test has asked for yet.
        """
        self.policy, self.gates = policy, max(gates, 1)
        sampled = sum(case.temperature > 0 for case in cases)
        self.test_level = policy.alpha / max(self.gates, 2 * sampled)
        """Error rate of one oracle or conformance test: each sampled case may be asked for both,
        greedy ones err only by a fault.
        """
        self._measurements = measurements
        self._swaps = SessionTest(
            alpha=policy.alpha,
            gates=self.gates,
            family=lambda: family_of(
                [case for case in cases if not case.candidate],
                comparisons,
                policy=policy,
                gates=self.gates,
                refusal=self._refusal,
            ),
        )

    def decide(self, run: Run, baseline: Baseline, metric: str) -> Decision:
        """Judge one metric of a run."""
        if problem := self._refusal(run, baseline):
            return _refused(metric, problem)
        if baseline.record is None or baseline.measured is None:
            return self._first(run, baseline, metric)
        return self._compare(run, baseline, baseline.record, baseline.measured, metric)

    def _refusal(self, run: Run, baseline: Baseline) -> str | None:
        """Why there is nothing to judge, whatever the baseline holds."""
        if run.case != baseline.case:
            return (
                f"the run of {run.case.id} is compared with the baseline of {baseline.case.id}; "
                "compare each case with its own baseline"
            )
        if run.case.describes_models and (problem := same_model(run.measured.fingerprints)):
            return problem
        for measurement in run.measurements:
            counts, expected = measurement.counts, measurement.expected
            if problem := looping_texts(measurement.looping, len(counts.prompts)):
                return problem
            if expected is not None and (problem := too_good(counts, expected, gates=self.gates)):
                return problem
        return None

    def _first(self, run: Run, baseline: Baseline, metric: str) -> Decision:
        """A run whose baseline is missing."""
        if not self.policy.creates:
            return _refused(
                metric, f"no baseline at {baseline.path}; create it with --specdec-update=new"
            )
        problem, warning = self._fitness(run)
        if problem is not None:
            return _refused(metric, problem)
        return Decision(
            verdict=Verdict(
                outcome="pass",
                metric=metric,
                reason=CREATED,
                now=value_of(metric, run.counts, run.costs),
            ),
            stores="record",
            warning=warning,
        )

    def _compare(
        self, run: Run, baseline: Baseline, record: Record, before: MeasuredCase, metric: str
    ) -> Decision:
        verdict, p_value = self._judge_acceptance(run, baseline, before, metric)
        erosion = erosion_of(verdict, run.measured, record)
        decision = Decision(verdict=verdict, p_value=p_value)
        if metric == "speedup":
            verdict = self._judge_costs(verdict, run, record)
            decision = dataclasses.replace(decision, verdict=verdict)
            if verdict.pair is None:
                return decision
        renews = self.policy.rewrites and self.policy.renews(record, run.record.replacing(record))
        limit = None if renews else run.case.erosion  # an update keeps the history that fails it
        verdict = judge_erosion(verdict, erosion, limit)
        decision = dataclasses.replace(decision, verdict=verdict)
        if renews:
            return self._renew(decision, run)
        if self.policy.update is not None and before.fingerprints == run.measured.fingerprints:
            return dataclasses.replace(decision, stores="missing token maps")
        return decision

    def _judge_acceptance(
        self, run: Run, baseline: Baseline, before: MeasuredCase, metric: str
    ) -> tuple[Verdict, float | None]:
        """The verdict on acceptance, and the p-value of a run that is accumulated."""
        margin, alpha, gates = run.case.margin, self.policy.alpha, self.gates
        if accumulates(run.case, self.policy.accumulate):
            return judge_accumulated(
                now=run.measured,
                before=before,
                earlier=baseline.earlier,
                metric=metric,
                margin=margin,
                alpha=alpha,
                gates=gates,
            )
        verdict = judge(
            now=run.measured,
            before=before,
            metric=metric,
            margin=margin,
            alpha=alpha,
            gates=gates,
            subset=self.policy.subset,
            contexts=run.stored_contexts,
            test=self._swaps.of(run.case),
        )
        return verdict, None

    def _judge_costs(self, acceptance: Verdict, run: Run, record: Record) -> Verdict:
        if run.case.costs is not None and run.costs is None:
            case = run.case
            whose = f" of {case.drafter_name}" if isinstance(case.drafter, RegisteredSpec) else ""
            reason = (
                f"the cost profile does not cover k={case.k}, depth={case.depth}{whose}; "
                "measure one that does"
            )
            return Verdict(outcome="error", metric="speedup", reason=reason)
        return judge_speedup(
            acceptance,
            record.costs,
            run.costs,
            margin=self.policy.costs_margin,
            level=self.policy.alpha / self.gates,
        )

    def _renew(self, decision: Decision, run: Run) -> Decision:
        """A run that replaces its baseline."""
        problem, warning = self._fitness(run)
        if problem is not None:
            refused = _refused(decision.verdict.metric, problem)
            return dataclasses.replace(refused, p_value=decision.p_value)
        verdict = dataclasses.replace(decision.verdict, outcome="pass", reason=UPDATED)
        return dataclasses.replace(decision, verdict=verdict, stores="record", warning=warning)

    def _fitness(self, run: Run) -> tuple[str | None, str | None]:
        """Why a run must not become a baseline, though it was measured; and, of one that may, a
        warning.
        """
        if problem := dead_drafter(run.counts):
            return problem, None
        if run.case.uses_lookup:
            return None, None
        first = run.measurements[0]
        if first.references is None:
            return self._contradicted(run), None
        references = first.references()
        if problem := no_better(first.counts, references):
            return problem, None
        warning = below_lookup(first.counts, references)
        return None, None if warning is None else f"{run.case.id}: {warning}"

    def _contradicted(self, run: Run) -> str | None:
        """Why the counts of another engine cannot be right: its models imply others. None where
        they agree or the models are not at hand.
        """
        try:
            agreement = self._measurements.oracle(run.case, self.test_level)
        except RequestError:  # weights, tokens or rounds are missing: nothing to compare with
            return None
        return None if agreement.agrees else f"{agreement.message}, so it cannot become a baseline"


def gates_of(cases: Collection[Case], costs: SessionCosts) -> int:
    """Judgements that share the false-alarm rate: one for each case, and one more where its costs
    differ from the baseline's.
    """
    return len(cases) + sum(map(costs.differ, cases))


def _refused(metric: str, reason: str) -> Decision:
    return Decision(verdict=Verdict(outcome="error", metric=metric, reason=reason))
