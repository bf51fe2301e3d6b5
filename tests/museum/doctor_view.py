"""What `python -m pytest_specdec doctor` says of an exhibit.

Of a broken checkpoint it says what to correct. A broken engine leaves the files right, so there it
can only say that, and name the engines that are known to read such files in another way.
"""

from __future__ import annotations

import dataclasses
import functools

from museum.exhibit import Exhibit
from museum.measure import Lab

from pytest_specdec.cases.case import OWN_HEADS, Case, Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import texts_of_prompts
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.doctor.block_patient import BlockPatient
from pytest_specdec.doctor.diagnosis import DoctorOutcome, diagnose
from pytest_specdec.doctor.eagle3_patient import Eagle3Patient
from pytest_specdec.doctor.engines import FACTS, MTP_FACTS
from pytest_specdec.doctor.mtp_patient import MtpPatient
from pytest_specdec.doctor.patients import patient_of
from pytest_specdec.doctor.residual_patient import ResidualPatient

SAMPLED = Sampling(1.0)
NAMED = (DoctorOutcome.MISREAD, DoctorOutcome.CONTRADICTORY)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """How much the doctor is given."""

    texts: int = 32
    new_tokens: int = 64
    k: int = 4


def is_named(words: str) -> bool:
    """Whether `doctor_says` returned a correction or an engine, and not an outcome alone."""
    return bool(words) and words not in {outcome.value[0] for outcome in DoctorOutcome}


def doctor_says(lab: Lab, exhibit: Exhibit, size: Size) -> str:
    """What it names: corrections of a broken checkpoint, or engines of the exhibit's source.

    Empty for files and engines that it finds nothing wrong with, and for draft models, which it
    does not examine; the outcome alone where it can say no more.
    """
    if exhibit.setting.drafter == "draft":
        return ""
    if exhibit.defect is not None:
        return ", ".join(engines_named(lab, exhibit))
    patient = examined(lab.case(exhibit), size)
    diagnosis = diagnose(patient, patient.nothing)
    if diagnosis.outcome in NAMED:
        return "; ".join([*patient.cures(diagnosis.findings.best), *patient.faults])
    return "" if diagnosis.outcome is DoctorOutcome.RIGHT else diagnosis.outcome.value[0]


def engines_named(lab: Lab, exhibit: Exhibit) -> list[str]:
    """The engines that the doctor's page of the sound head lists, of the exhibit's source."""
    patient = examined(lab.case(exhibit), Size(texts=1, new_tokens=8, k=exhibit.setting.k))
    sources = {fact.who: fact.source for fact in (*FACTS, *MTP_FACTS)}
    listed = [engine.who for engine in patient.engines(patient.readings.written())]
    return [who for who in listed if sources.get(who) == exhibit.source]


@functools.cache
def examined(case: Case, size: Size) -> BlockPatient | Eagle3Patient | MtpPatient | ResidualPatient:
    """The drafter of a case on texts that its target samples."""
    target = load_model(case.target, "cpu")
    prompts = read_prompts(case.texts.prompts, size.texts)
    ids = encode_prompts(target.tokenizer, prompts)
    new = sample_new_tokens(
        target,
        ids,
        new_tokens=size.new_tokens,
        sampling=SAMPLED,
        seed=0,
        keys=[prompt.key for prompt in prompts],
    )
    drafter = OWN_HEADS if case.uses_own_heads else str(case.drafter).partition(":")[2]
    return patient_of(target, drafter, texts_of_prompts(prompts, ids, new), SAMPLED, size.k)
