"""The judge of a session: decides, remembers verdicts, and queues what is to be written."""

from __future__ import annotations

from ..cases.case import Case
from ..common.printable import printable
from ..gate.verdict import Verdict
from ..report.failure_message import headline, summary
from ..report.row import SEVERITY
from .comparison import Baseline, Judge, Metric, Run, run_and_baseline
from .decisions import Decider
from .judgements import Judgement
from .messages import FailureMessages
from .pending_files import PendingFiles


class SessionJudge(Judge):
    """Judges each comparison of a run with a baseline by the session's rules."""

    def __init__(self, rules: Decider, pending: PendingFiles, messages: FailureMessages) -> None:
        self._rules, self._pending, self._messages = rules, pending, messages
        self._verdicts: dict[Case, dict[str, Verdict]] = {}
        self._judgements: list[Judgement] = []
        self._warnings: dict[Case, str] = {}
        self._lines: dict[tuple[Case, str], list[str]] = {}
        """The message of each verdict that does not pass, by case and metric."""

    def passes(self, run: Run, baseline: Baseline, metric: str, *, differs: bool) -> bool:
        decision = self._rules.decide(run, baseline, metric)
        verdict = decision.verdict
        self._pending.add(run, baseline, decision)
        self._verdicts.setdefault(baseline.case, {})[metric] = verdict
        if decision.warning is not None:
            self._warnings[baseline.case] = decision.warning
        passes = verdict.passes(self._rules.policy.inconclusive)
        lines = [] if passes else self._messages.lines(verdict, run, baseline)
        self._lines[baseline.case, metric] = lines
        self._judgements.append(
            Judgement(
                case_id=baseline.case.id,
                passes=passes,
                headline=printable(headline(verdict)),
                summary=printable(summary(verdict)),
                message=lines,
                expected=differs and verdict.outcome != "error",
                counts_given=not baseline.case.describes_models,
            )
        )
        return passes

    def most_severe(self, case: Case) -> Verdict | None:
        """The most severe verdict on a case so far; None before the first."""
        verdicts = self._verdicts.get(case, {}).values()
        return max(verdicts, key=lambda verdict: SEVERITY.index(verdict.outcome), default=None)

    def diagnosis(self, case: Case) -> list[str]:
        """The message of the most severe verdict on a case; empty where that passes."""
        verdict = self.most_severe(case)
        return [] if verdict is None else self._lines.get((case, verdict.metric), [])

    def verdict_on(self, left: object, right: object) -> Verdict | None:
        """The verdict on a `==` between a run and a baseline, or a metric of each; None for
        anything else.
        """
        if isinstance(left, Metric) and isinstance(right, Metric):
            metric, sides = left.name, run_and_baseline(left.side, right.side)
        else:
            metric, sides = "acceptance_length", run_and_baseline(left, right)
        return None if sides is None else self._verdicts.get(sides[1].case, {}).get(metric)

    def warning(self, case: Case) -> str | None:
        """A warning on the new baseline of a case."""
        return self._warnings.get(case)

    def take_judgements(self) -> list[Judgement]:
        """The judgements since the last call."""
        taken, self._judgements = self._judgements, []
        return taken
