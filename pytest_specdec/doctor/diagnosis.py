"""From a search over readings to a verdict."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Generic

from ..acceptance.counts import Counts
from .measure import FEWEST, ReadingScore
from .patient import EngineReading, Patient, R
from .search import ALPHA, MARGIN, Findings, Report, search


class DoctorOutcome(enum.Enum):
    """What the doctor says, with the exit status of the command."""

    RIGHT = "read as trained", 0
    MISREAD = "trained for another reading", 1
    CONTRADICTORY = "the folder contradicts itself", 1
    NOTHING = "no reading gives more than a drafter that knows nothing", 1
    UNDECIDED = "undecided", 3

    def __init__(self, words: str, status: int) -> None:
        self.words, self.status = words, status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis(Generic[R]):
    """What was found; `diagnose` makes it."""

    patient: Patient[R]
    findings: Findings[R]
    engines: Sequence[tuple[EngineReading[R], ReadingScore | None]]
    """Who reads the folder in another way, how, and what that gives: the folder once corrected,
    where the verdict says what to correct.
    """

    @property
    def outcome(self) -> DoctorOutcome:
        """A drafter that is no better than one that knows nothing has no right reading; one that
        was found to have another reading, or has none that may be relevantly better, is decided.
        """
        findings = self.findings
        low, high = findings.knowledge.bounds(ALPHA)
        if high < MARGIN * findings.nothing.acceptance_length:
            return DoctorOutcome.NOTHING
        if low <= 0:
            return DoctorOutcome.UNDECIDED
        if findings.best != findings.written:
            return DoctorOutcome.MISREAD
        if findings.open:
            return DoctorOutcome.UNDECIDED
        return DoctorOutcome.CONTRADICTORY if self.patient.faults else DoctorOutcome.RIGHT

    @property
    def too_few(self) -> bool:
        """Whether there are fewer texts than anything can be decided on."""
        return self.findings.knowledge.prompts < FEWEST


def diagnose(patient: Patient[R], nothing: Counts, report: Report | None = None) -> Diagnosis[R]:
    """Measure the readings of a drafter's folder and say which one it was trained for.

    `nothing` are the counts of a drafter that knows nothing, on the same texts. `report` is called
    with how far the measurement is.
    """
    findings = search(patient.readings, patient.measure, patient.screen, nothing, report=report)

    def measured_once(reading: R) -> ReadingScore:
        return findings.measured.get(reading) or patient.measure(reading)

    diagnosis = Diagnosis(patient=patient, findings=findings, engines=())
    misread = diagnosis.outcome is DoctorOutcome.MISREAD
    engines = [
        (engine, None if engine.reading is None else measured_once(engine.reading))
        for engine in patient.engines(findings.best if misread else findings.written)
    ]
    return dataclasses.replace(diagnosis, engines=engines)
