"""A session's cases from request to verdict: each measured once, judged, and collected for the
reports.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..baselines.repeats import Runs, accumulates, measured_cases, seeded
from ..baselines.schema import SCHEMA, CaseCosts, EvidenceFile, Record
from ..baselines.store import BaselineStore, current_evidence, fingerprint
from ..baselines.writing import dumps
from ..cases.case import LOOKUP, MEASURE, Case
from ..cases.prompts import read_prompts
from ..common.display import short
from ..common.errors import RequestError, SpecdecError
from ..common.printable import printable
from ..engines.model_checks import conformance, oracle
from ..engines.protocol import Engine
from ..gate.accumulation import judge_night
from ..gate.refusals import (
    below_lookup,
    dead_drafter,
    looping_texts,
    no_better,
    same_model,
    too_good,
)
from ..gate.speedup_gate import judge_speedup
from ..gate.verdict import Verdict, judge
from ..report.failure_message import INTENDED, explain, headline
from ..report.layout import wrapped
from ..report.row import SEVERITY, ReportRow
from ..speedup.cost_profile import CostProfile
from .comparison import Baseline, Metric, Run, costs_of, value_of
from .diagnosis import diagnose, token_files
from .judgements import Judgement
from .report_rows import CREATED, UPDATED, failed_row, measured_row

if TYPE_CHECKING:
    from ..cases.texts import Text
    from ..engines.counting.oracle import Agreement
    from ..lossless.texts.conformance import Conformance


OLD_BASELINES = "baselines of an older schema, which hold neither case nor digest"


@dataclasses.dataclass(frozen=True)
class Policy:
    """The options that decide verdicts and what is written."""

    alpha: float
    inconclusive: str
    update: str | None
    subset: bool
    """Whether fewer prompts than the baseline's were asked for."""
    repeats: int | None = None
    accumulate: bool = False
    costs_margin: float = 0.1
    """Relative fall of the speed-up from which new costs fail it."""

    @property
    def runs(self) -> Runs:
        return Runs(self.repeats, self.rewrites(), self.accumulate)

    def creates(self) -> bool:
        return self.update in ("new", "all")

    def rewrites(self) -> bool:
        return self.update in ("changed", "all")

    def renews(self, before: Record, now: Record) -> bool:
        """Whether a stored record is to be replaced; `changed` spares one that differs by
        environment and last digits alone.
        """
        if not self.rewrites() or self.subset:
            return False
        return dumps(before) != dumps(now) and (self.update == "all" or not before.repeated_by(now))


class CaseRunner:
    """The cases of a session. Measures lazily; keeps verdicts, messages and pending baseline
    files.
    """

    def __init__(
        self,
        plan: Sequence[Case],
        engine: Engine,
        store: BaselineStore,
        policy: Policy,
        name_update: Callable[[str], str],
        replaced_drafters: Mapping[Case, str],
    ) -> None:
        self.plan, self.engine, self.store, self.policy = tuple(plan), engine, store, policy
        self._name_update, self._replaced_drafters = name_update, replaced_drafters
        self.verdicts: dict[str, dict[str, Verdict]] = {}
        self.pending: dict[Path, str] = {}
        self._judgements: list[Judgement] = []
        self._warnings: dict[str, str] = {}
        self._runs: dict[Case, Run] = {}
        self._texts_read: set[Case] = set()
        self.baseline = functools.cache(self._baseline)
        self._stored = functools.cache(store.record)
        self._measure_costs = functools.cache(self._costs_of_pair)
        self.oracle = functools.cache(self._oracle)

    def run(self, case: Case) -> Run:
        """The session's run of a case, measured on first use."""
        if case not in self._runs:
            cases = measured_cases(case, self.store, self.policy.runs)
            first, *again = [self.engine.measure(one) for one in cases]
            self._runs[case] = Run(
                case, first, self.engine.name, self._case_costs(case), again, cases[0].texts.seed
            )
        return self._runs[case]

    def asked(self, case: Case) -> bool:
        """Whether a test asked for the run or the texts of a case, so that reports show it."""
        return case in self._runs or case in self._texts_read

    def texts(self, case: Case) -> tuple[Text, ...]:
        """The texts that the engine emits for a case, at least one."""
        texts = tuple(self.engine.emitted(case))
        self._texts_read.add(case)
        return texts

    def unsupported(self, case: Case) -> str | None:
        """Why the engine cannot run a case at all; None where it can."""
        return self.engine.unsupported(case)

    def conformance(self, case: Case) -> Conformance:
        """Whether the engine's texts for a case are the target's."""
        return conformance(self.engine, case, self._level)

    def _oracle(self, case: Case) -> Agreement:
        """Whether the engine counts what its models imply."""
        return oracle(self.engine, case, self._level)

    def _baseline(self, case: Case) -> Baseline:
        return Baseline(case, self._stored(case), self._case_costs(case), self.judge)

    def costs(self, case: Case) -> CostProfile | None:
        """The session's cost profile of a case, read or, on first use, measured."""
        if case.costs == MEASURE:
            return self._measure_costs(case.target, case.drafter, case.temperature)
        return None if case.costs is None else _load_costs(Path(case.costs))

    def _case_costs(self, case: Case) -> CaseCosts | None:
        """Those of the session's profile; without one the baseline's own."""
        if case.costs is not None:
            return costs_of(case, self.costs(case))
        stored = self._stored(case)
        return None if stored is None else stored.costs

    def _costs_of_pair(self, target: str, drafter: str, temperature: float) -> CostProfile:
        cases = [
            case
            for case in self.plan
            if (case.target, case.drafter, case.temperature, case.costs)
            == (target, drafter, temperature, MEASURE)
        ]
        return self.engine.models.costs(cases)

    def judge(self, run: Run, case: Case, metric: str, *, differs: bool = False) -> bool:
        """Judge one metric of a run against the baseline of `case`, remember the verdict, queue
        what is to be written.
        """
        verdict = self._judged(run, case, metric)
        self.verdicts.setdefault(case.id, {})[metric] = verdict
        passes = verdict.passes(self.policy.inconclusive)
        message = [] if passes else self._message(run, case, verdict)
        self._judgements.append(
            Judgement(
                case_id=case.id,
                passes=passes,
                headline=printable(headline(verdict)),
                message=message,
                expected=differs and verdict.outcome != "error",
            )
        )
        return passes

    def _judged(self, run: Run, case: Case, metric: str) -> Verdict:
        if run.case != case:
            other = f"the run of {run.case.id} is compared with the baseline of {case.id}"
            return Verdict("error", metric, f"{other}; compare each case with its own baseline")
        if problem := self._refusal(run):
            return Verdict("error", metric, problem)
        before = self.baseline(case).record
        return self._missing(run, metric) if before is None else self._compare(run, before, metric)

    def _refusal(self, run: Run) -> str | None:
        """Why a run is no measurement, whatever the baseline says."""
        if problem := same_model(run.record.fingerprints):
            return problem
        for one in run.measurements:
            if problem := looping_texts(one.looping, len(one.counts.prompts)):
                return problem
            if one.expected is not None and (
                problem := too_good(one.counts, one.expected, gates=self._gates)
            ):
                return problem
        return None

    def _missing(self, run: Run, metric: str) -> Verdict:
        if not self.policy.creates():
            path = self.store.record_path(run.case)
            return Verdict(
                "error", metric, f"no baseline at {path}; create it with --specdec-update=new"
            )
        if problem := self._unfit(run):
            return Verdict("error", metric, problem)
        self._queue(run, None)
        return Verdict("pass", metric, CREATED, now=value_of(metric, run.counts, run.costs))

    def _unfit(self, run: Run) -> str | None:
        """Why a run must not become a baseline, though it was measured."""
        if problem := dead_drafter(run.counts):
            return problem
        if run.case.drafter == LOOKUP:
            return None
        references = run.measurements[0].references
        if references is None:
            return self._against_oracle(run)
        known = references()
        if problem := no_better(run.measurements[0].counts, known):
            return problem
        if warning := below_lookup(run.measurements[0].counts, known):
            self._warnings[run.case.id] = f"{run.case.id}: {warning}"
        return None

    def _against_oracle(self, run: Run) -> str | None:
        """Why counts of an engine of its own cannot be right: its models imply others. None where
        they agree or are not here.
        """
        try:
            agreement = self.oracle(run.case)
        except RequestError:
            # Weights, tokens or rounds are not at hand: nothing to hold the counts against.
            return None
        return None if agreement.agrees else f"{agreement.message}, so it cannot become a baseline"

    def _compare(self, run: Run, before: Record, metric: str) -> Verdict:
        verdict = self._verdict(run, before, metric)
        if metric == "speedup":
            if run.case.costs is not None and run.costs is None:
                missing = (
                    f"the cost profile does not cover k={run.case.k}, depth={run.case.depth}; "
                    "measure one that does"
                )
                return Verdict("error", metric, missing)
            level = self.policy.alpha / self._gates
            verdict = judge_speedup(
                verdict, before.costs, run.costs, margin=self.policy.costs_margin, level=level
            )
            if verdict.pair is None:
                return verdict
        if self.policy.renews(before, _kept(run.record, before)):
            if problem := self._unfit(run):
                return Verdict("error", metric, problem)
            self._queue(run, before)
            return dataclasses.replace(verdict, outcome="pass", reason=UPDATED)
        if self.policy.update is not None and before.fingerprints == run.record.fingerprints:
            self._queue_tokens(run, only_missing=True)
        return verdict

    @functools.cached_property
    def _gates(self) -> int:
        """Judgements that share the false-alarm rate: one a case, and one more where its costs are
        new.
        """
        return len(self.plan) + sum(map(self._new_costs, self.plan))

    @property
    def _level(self) -> float:
        """Error rate of one oracle or conformance: each sampled case may be asked for both. Greedy
        ones err by a fault alone.
        """
        sampled = sum(case.temperature > 0 for case in self.plan)
        return self.policy.alpha / max(self._gates, 2 * sampled)

    def _new_costs(self, case: Case) -> bool:
        stored = self._stored(case)
        before = None if stored is None else stored.costs
        return before is not None and (case.costs == MEASURE or before != self._case_costs(case))

    def _verdict(self, run: Run, before: Record, metric: str) -> Verdict:
        case, alpha, gates = run.case, self.policy.alpha, self._gates
        if not accumulates(case, self.policy.accumulate):
            subset = self.policy.subset
            return judge(
                run.record,
                before,
                metric=metric,
                margin=case.margin,
                alpha=alpha,
                gates=gates,
                subset=subset,
            )
        nights = current_evidence(self.store, case, before)
        verdict, night = judge_night(
            run.record, before, nights, metric=metric, margin=case.margin, alpha=alpha, gates=gates
        )
        if night is not None:
            grown = EvidenceFile(SCHEMA, fingerprint(before), (*nights, night))
            self.pending[self.store.evidence_path(case)] = dumps(grown)
        return verdict

    def _queue(self, run: Run, before: Record | None) -> None:
        """Keep the new record, and its texts where the stored ones are missing or go with the old
        records.
        """
        self.pending[self.store.record_path(run.case)] = dumps(_kept(run.record, before))
        self._queue_tokens(run)
        for number, measurement in enumerate(run.measurements):
            case = seeded(run.case, number)
            if measurement.texts is None:
                continue
            stored = self.store.texts(case.texts)
            texts = dumps(measurement.texts)
            if stored is None or (before is not None and texts != dumps(stored)):
                self.pending[self.store.texts_path(case.texts)] = texts

    def _queue_tokens(self, run: Run, only_missing: bool = False) -> None:
        self.pending |= {
            path: text
            for path, text in token_files(run, self.store)
            if not (only_missing and path.exists())
        }

    def verdict(self, case: Case) -> Verdict | None:
        """The gravest verdict on a case so far."""
        found = self.verdicts.get(case.id, {}).values()
        return max(found, key=lambda verdict: SEVERITY.index(verdict.outcome), default=None)

    def take_judgements(self) -> list[Judgement]:
        """The judgements since the last call."""
        taken, self._judgements = self._judgements, []
        return taken

    def compared(self, left: object, right: object) -> Verdict | None:
        """The verdict on a failed `==` between a run and a baseline, or a metric of each; None for
        anything else.
        """
        sides, metric = (left, right), "acceptance_length"
        if isinstance(left, Metric) and isinstance(right, Metric):
            sides, metric = (left.side, right.side), left.name
        if {type(side) for side in sides} != {Run, Baseline}:
            return None
        assert isinstance(sides[0], Run | Baseline)
        return self.verdicts.get(sides[0].case.id, {}).get(metric)

    def _message(self, run: Run, case: Case, verdict: Verdict) -> list[str]:
        before = self.baseline(case).record
        same_texts = before is not None and verdict.regime == "deterministic"
        lines = explain(
            verdict,
            case_id=case.id,
            update_command=self._name_update("changed" if before else "new"),
            prompt_names=self._prompt_names(case),
            where=diagnose(run, before, self.store, self.engine) if before and same_texts else (),
            replaced_drafter=self._replaced_drafters.get(case),
        )
        return [part for line in lines for part in _in_columns(printable(line))]

    def _prompt_names(self, case: Case) -> Mapping[str, str]:
        prompts = read_prompts(case.texts.prompts, case.texts.prompt_limit)
        texts = {
            prompt.key: prompt.text or prompt.chat()[-1].get("content", "") for prompt in prompts
        }
        return {
            key: repr(text if len(text) <= 40 else text[:37] + "...") for key, text in texts.items()
        }

    def row(self, case: Case) -> ReportRow:
        """The report row of a case. If only its texts were asked for and measuring fails, the row
        is an error.
        """
        try:
            run = self.run(case)
        except SpecdecError as error:
            row = failed_row(case, self.engine.name, str(error))
        else:
            row = measured_row(
                run,
                self.baseline(case),
                self.verdict(case),
                self.engine.name,
                self._prompt_names(case),
            )
            row["notes"] += self._notes(case)
        return row

    def _notes(self, case: Case) -> list[str]:
        """What a reader should know of a case's baseline, whatever the verdict."""
        before = self._stored(case)
        old = before is not None and before.schema < SCHEMA and not self.policy.rewrites()
        migrate = f"python -m pytest_specdec baseline migrate {short(self.store.folder)}"
        warning = self._warnings.get(case.id)
        notes = [f"{OLD_BASELINES}; rewrite them with: {migrate}"] * old + (
            [] if warning is None else [warning]
        )
        return notes + [note for note in (self._prompts_note(case),) if note is not None]

    def _prompts_note(self, case: Case) -> str | None:
        """How many of the prompts were measured, where the command line asks for fewer."""
        measured, total = (
            len(read_prompts(case.texts.prompts, limit))
            for limit in (case.texts.prompt_limit, None)
        )
        if not self.policy.subset or measured == total:
            return None
        return f"suite {case.suite}: measured {measured} of {total} prompts (--specdec-prompts)"


def _in_columns(line: str) -> list[str]:
    """A line of a message in the terminal's columns; the headline, and a command to be copied, stay
    whole.
    """
    labelled = line.startswith(" ") and not line.startswith(INTENDED)
    return wrapped(line, indent=" " * len(INTENDED)) if labelled else [line]


def _kept(record: Record, before: Record | None) -> Record:
    """A record to be stored: it keeps what its baseline replaced and, where the session has none,
    its costs.
    """
    if before is None:
        return record
    costs = before.costs if record.costs is None else record.costs
    return msgspec.structs.replace(record, costs=costs, replaced=before.replaced)


@functools.cache
def _load_costs(path: Path) -> CostProfile:
    return CostProfile.load(path)
