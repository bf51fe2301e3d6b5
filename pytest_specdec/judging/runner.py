"""A session's cases from request to verdict: each measured once, judged, and collected for the
reports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..baselines.store import BaselineStore
from ..cases.case import Case
from ..common.errors import SpecdecError
from ..engines.model_checks import conformance
from ..engines.protocol import Engine
from ..gate.verdict import Verdict
from ..report.row import CheckRow, ReportRow
from ..speedup.cost_profile import CostProfile
from .axes import MeasuredAxes, measured_axes
from .candidates import MeasuredCandidate, measured_candidate
from .comparison import Baseline, Run
from .costs import SessionCosts
from .decisions import Decider, gates_of
from .judge import SessionJudge
from .judgements import Judgement
from .measurements import Measurements
from .messages import FailureMessages, prompt_names
from .notes import notes_on
from .pending_files import PendingFiles
from .policy import Policy
from .report_rows import empty_row, failed_row, measured_row
from .stored_baselines import StoredBaselines
from .stored_records import StoredRecords
from .token_rows import contexts, token_texts

if TYPE_CHECKING:
    from ..cases.texts import Text
    from ..engines.counting.oracle import Agreement
    from ..lossless.texts.conformance import Conformance


_PROMPTS_KNOWN = ("replay", "decode")
"""Engines whose texts are at hand, with their prompts' tokens."""


class CaseRunner:
    """The cases of a session: what its fixtures, hooks and reports ask for."""

    def __init__(
        self,
        plan: Mapping[Case, Sequence[Case]],
        *,
        engine: Engine,
        store: BaselineStore,
        policy: Policy,
        update_command: Callable[[str], str],
        replaced_models: Mapping[Case, Mapping[str, str]],
        other_gates: int = 0,
    ) -> None:
        """`plan` holds the runs that are measured for each case, see
        `baselines.repeats.measured_cases`. The session's false-alarm rate is shared with
        `other_gates` gates of other runners.
        """
        self._engine, self._policy, self._store = engine, policy, store
        self._places = {case: place for place, case in enumerate(plan)}
        self._records = StoredRecords(store)
        self._costs = SessionCosts(plan, engine, self._records)
        self._measurements = Measurements(plan, engine, self._costs)
        self._pending = PendingFiles(store, keeps_texts=policy.keeps_texts)
        self._checks: dict[Case, list[CheckRow]] = {}
        """What tests asked of the engine without a baseline."""
        self._rules = Decider(
            policy=policy,
            gates=gates_of([case for case in plan if not case.candidate], self._costs)
            + other_gates,
            cases=plan,
            measurements=self._measurements,
            comparisons=self._comparisons,
        )
        messages = FailureMessages(
            store=store,
            engine=engine,
            update_command=update_command,
            replaced_models=replaced_models,
            quotes_prompts=policy.keeps_texts,
        )
        self._judge = SessionJudge(self._rules, self._pending, messages)
        self._baselines = StoredBaselines(
            store=store,
            records=self._records,
            costs=self._costs,
            judge=self._judge,
            accumulate=policy.accumulate,
        )

    @property
    def pending(self) -> Mapping[Path, str]:
        """The baseline files to be written at the end, by path."""
        return self._pending.contents

    def run(self, case: Case) -> Run:
        """The session's run of a case, measured on first use."""
        return self._measurements.run(case)

    def baseline(self, case: Case) -> Baseline:
        """The stored side of a case, read on first use."""
        return self._baselines.of(case)

    def asked(self, case: Case) -> bool:
        """Whether a test asked for the run, the texts or a check of a case, so that reports show
        it.
        """
        return self._measurements.include(case) or case in self._checks

    def texts(self, case: Case) -> tuple[Text, ...]:
        """The texts that the engine emits for a case, at least one."""
        return self._measurements.texts(case)

    def unsupported(self, case: Case) -> str | None:
        """Why the engine cannot run a case at all; None where it can."""
        return self._engine.unsupported(case)

    @property
    def test_level(self) -> float:
        """The probability with which one test of a right engine's texts or rounds fails."""
        return self._rules.test_level

    def conformance(self, case: Case) -> Conformance:
        """Whether the engine's texts for a case follow the target."""
        found = conformance(self._engine, case, self.test_level)
        self._note_check(case, "conformance", found.conforms, found.message)
        return found

    def oracle(self, case: Case) -> Agreement:
        """Whether the engine counts what its models imply."""
        found = self._measurements.oracle(case, self.test_level)
        self._note_check(case, "oracle", found.agrees, found.message)
        return found

    def _note_check(self, case: Case, name: str, passes: bool, message: str) -> None:
        check = CheckRow(name=name, passes=passes, message=message)
        checks = self._checks.setdefault(case, [])
        if check not in checks:
            checks.append(check)

    def costs(self, case: Case) -> CostProfile | None:
        """The session's cost profile of a case."""
        return self._costs.profile(case)

    def take_judgements(self) -> list[Judgement]:
        """The judgements since the last call."""
        return self._judge.take_judgements()

    def compared(self, left: object, right: object) -> Verdict | None:
        """The verdict on a failed `==`; None where the gate judged nothing."""
        return self._judge.verdict_on(left, right)

    def candidate(self, case: Case) -> MeasuredCandidate:
        """What a candidate is compared by."""
        return measured_candidate(self.run(case))

    def axes(self, case: Case) -> MeasuredAxes:
        """What a measured case is compared by along axes."""
        known = case.engine in _PROMPTS_KNOWN and case.describes_models
        texts = self.texts(case) if known else ()
        return measured_axes(self.run(case), texts, self._places[case])

    def _comparisons(self, cases: Collection[Case]) -> Iterator[tuple[Run, Baseline]]:
        """The runs and baselines of cases that have both: others are errors or skipped, and their
        own tests say so.
        """
        for case in cases:
            try:
                if self._engine.unsupported(case) is None and self._records.of(case) is not None:
                    yield self._measurements.beside(case), self.baseline(case)
            except SpecdecError:
                continue

    def row(self, case: Case) -> ReportRow:
        """The report row of a case. If only its texts were asked for and measuring fails, the row
        is an error.
        """
        if not self._measurements.include(case):  # a check alone: nothing more is measured for it
            return {**empty_row(case, self._engine.name), "checks": list(self._checks[case])}
        try:
            run = self.run(case)
        except SpecdecError as error:
            row = failed_row(case, self._engine.name, str(error))
        else:
            baseline, verdict = self.baseline(case), self._judge.most_severe(case)
            row = measured_row(
                run,
                baseline,
                verdict,
                self._engine.name,
                prompt_names(run, quoted=self._policy.keeps_texts),
                self._judge.diagnosis(case),
            )
            if self._policy.shows_tokens:
                row["contexts"] = contexts(run, baseline.measured, self._store)
            if self._policy.shows_tokens and self._policy.keeps_texts:
                row["token_texts"] = token_texts(
                    run, baseline.measured, self._store, self._engine, prompt_names(run)
                )
            row["notes"] += notes_on(
                case,
                baseline.record,
                self._policy,
                path=baseline.path,
                device=self._store.device if self._store.in_force(case) != self._store else None,
                verdict=verdict,
                folder=self._store.folder,
                warning=self._judge.warning(case),
            )
        row["checks"] = list(self._checks.get(case, ()))
        return row
