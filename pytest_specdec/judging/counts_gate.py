"""The gate on counts that a test hands over: `specdec_gate("name").check(rounds=...)`.

The counts are those of one case whose models are not known, and take the way of every other case:
a run, its baseline, the judge and the report row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from ..acceptance.given_counts import GivenCounts, given_counts
from ..cases.case import Case
from ..cases.counts_case import COUNTS, NOT_STATED, CountsCase
from ..common.errors import RequestError
from ..engines.models import ModelPool
from ..engines.protocol import Engine, Measurement
from ..gate.permutation import can_resolve, prompts_to_resolve
from ..gate.verdict import Verdict
from ..records.conditions import Environment, Fingerprints
from ..records.record import Record
from ..report.row import ReportRow
from .comparison import Baseline
from .runner import CaseRunner

if TYPE_CHECKING:
    from ..cases.texts import Text

GateMetric = Literal["acceptance_length", "acceptance_rate"]
METRICS: tuple[GateMetric, ...] = ("acceptance_length", "acceptance_rate")
_UNKNOWN = "a test hands over counts alone, without models and texts; use specdec_run for these"


class GivenEngine(Engine):
    """Answers with the counts that a test gives; it decodes nothing and knows no models."""

    name = COUNTS

    def __init__(self, given: GivenCounts) -> None:
        self._given = given

    @property
    def models(self) -> ModelPool:
        raise RequestError(_UNKNOWN)

    def measure(self, case: Case) -> Measurement:
        counts, notes = self._given.counts, []
        if without := self._given.without_rounds:
            notes.append(f"{case.id}: {without} of {len(counts.prompts)} requests have no round")
        return Measurement(
            counts=counts,
            fingerprints=Fingerprints(target=NOT_STATED, drafter=NOT_STATED),
            environment=Environment(
                torch="", transformers="", device=NOT_STATED, dtype=NOT_STATED, threads=0
            ),
            tokenizer=NOT_STATED,
            template=None,
            text_fingerprints=dict.fromkeys(counts.prompts, ""),
            texts=None,
            definition=self._given.definition,
            notes=tuple(notes),
        )

    def emitted(self, case: Case) -> Sequence[Text]:
        raise RequestError(_UNKNOWN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateRequest:
    """What a test asks of its gate, checked."""

    name: str
    suite: str
    margin: float
    k: int | None
    """Most draft tokens of a round; None where the counts show it."""
    metric: GateMetric

    @property
    def id(self) -> str:
        return f"{self.suite}/{self.name}"


class CountsGate:
    """Judges the counts of one test, once: a gate is never retried."""

    def __init__(
        self,
        request: GateRequest,
        *,
        runner: Callable[[CountsCase, GivenEngine], CaseRunner],
        level: float,
        rewrites: bool,
    ) -> None:
        """`runner` makes the runner of a case; `level` is the gate's share of the session's
        false-alarm rate; `rewrites` says whether the session replaces baselines.
        """
        self.request = request
        self._make_runner, self._level, self._rewrites = runner, level, rewrites
        self._judged: tuple[CaseRunner, CountsCase] | None = None

    @property
    def row(self) -> ReportRow | None:
        """The report row; None before the counts are judged."""
        if self._judged is None:
            return None
        runner, case = self._judged
        return runner.row(case)

    def judge(self, *, rounds: object = None, sums: object = None) -> tuple[Verdict, bool]:
        """Judge counts, see `given_counts`; returns the verdict, and whether the test passes.

        Raises RequestError for counts that cannot be judged, and for a second call; BaselineError
        for a stored file that cannot be read.
        """
        request = self.request
        if self._judged is not None:
            raise RequestError(
                f"the gate {request.id} has judged counts already, and a gate is never retried; "
                "check all requests in one call, or give other counts a test and a name of their "
                "own"
            )
        given = given_counts(rounds=rounds, sums=sums, k=request.k)
        self._check_resolves(len(given.counts.prompts))
        case = CountsCase.of(
            request.name, suite=request.suite, k=given.counts.k, margin=request.margin
        )
        runner = self._make_runner(case, GivenEngine(given))
        run, baseline = runner.run(case), runner.baseline(case)
        if baseline.record is not None:
            self._check_pairs(given, baseline, baseline.record)
        self._judged = runner, case
        ours, theirs = getattr(run, request.metric), getattr(baseline, request.metric)
        passes: bool = ours == theirs
        verdict = runner.compared(ours, theirs)
        assert verdict is not None
        return verdict, passes

    def _check_resolves(self, requests: int) -> None:
        """Refuse counts that no drop can fail."""
        if can_resolve(requests, self._level):
            return
        raise RequestError(
            f"{requests} requests can never fail a gate at level {self._level:.2g}; give the "
            f"counts of at least {prompts_to_resolve(self._level)} requests, or raise "
            "--specdec-alpha"
        )

    def _check_pairs(self, given: GivenCounts, baseline: Baseline, record: Record) -> None:
        """Refuse the baseline of another kind of case, and requests whose places do not pair
        them.
        """
        if record.conditions.engine != COUNTS:
            raise RequestError(
                f"baseline {baseline.path} belongs to a case that engine "
                f"{record.conditions.engine!r} measured; give the gate another name"
            )
        stored, prompts = set(record.counts), set(given.counts.prompts)
        if given.keyed or self._rewrites or stored == prompts:
            return
        raise RequestError(
            f"the baseline holds {len(stored)} requests and the test gives {len(prompts)} without "
            "keys, so their places do not pair them; give a mapping from the same keys in every "
            "run, or accept the new requests with --specdec-update=changed"
        )
