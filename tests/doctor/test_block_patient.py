"""Readings of block drafters: the written one is replay's, and drafters whose files say another one
than they were trained for are found out.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers.blocks import KINDS, edit_config, write_block
from helpers.support import EMBEDDED, llama
from helpers.tiers import exhaustive

from pytest_specdec import replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.doctor.block_patient import BlockPatient
from pytest_specdec.doctor.block_reading import BlockReading
from pytest_specdec.doctor.checks import checked_texts
from pytest_specdec.doctor.diagnosis import DoctorOutcome, diagnose
from pytest_specdec.doctor.measure import ReadingScore
from pytest_specdec.doctor.patients import patient_of

K = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("target") / "llama", seed=3, layers=5, mtp_layers=0)


@pytest.fixture(scope="module")
def target(folder: Path) -> LoadedModel:
    return load_model(str(folder), "cpu")


def examined(target: LoadedModel, drafter: Path, texts: Sequence[Text]) -> BlockPatient:
    patient = patient_of(target, str(drafter), texts, Sampling(1.0), K)
    assert isinstance(patient, BlockPatient)
    return patient


@pytest.mark.parametrize(
    "form", ["DFlash, z-lab", "DFlash, speculators", "DSpark, DeepSpec", "Domino"]
)
def test_the_written_reading_is_that_of_replay(
    folder: Path, target: LoadedModel, tmp_path: Path, form: str
) -> None:
    """And every other reading drafts otherwise, so none of them is the same by mistake."""
    drafter = write_block(tmp_path / "block", folder, *KINDS[form], ids=(1, 3))
    prompts = [[0, 2 + row, 3 + row, 4] for row in range(10)]
    texts = decode(target, None, prompts, k=0, new_tokens=16, seed=5).texts
    patient = examined(target, drafter, texts)
    written = patient.readings.written()
    counts = patient.measure(written).counts
    expected = replay(target, str(drafter), texts, k=K)
    assert np.allclose(counts.accepted, expected.accepted, atol=1e-5)
    assert np.allclose(counts.rounds, expected.rounds, atol=1e-5)
    assert patient.words(written) == "as written"
    others = patient.readings.neighbours(written)
    lengths = {round(patient.measure(reading).length, 6) for reading in [written, *others]}
    assert len(lengths) == 1 + len(others)
    assert all(patient.words(reading) for reading in others)
    assert all(patient.cures(reading) for reading in others)


@functools.cache
def embedded() -> tuple[LoadedModel, tuple[Text, ...]]:
    target = load_model(str(EMBEDDED / "text-target"), "cpu")
    prompts = [
        prompt.text
        for prompt in checked_texts(
            EMBEDDED.parent / "text" / "prompts.jsonl", 40, new_tokens=64, k=K, temperature=1.0
        )
    ]
    return target, decode(target, None, prompts, k=0, new_tokens=64, seed=5).texts


DEFECTS = {
    "causal": ({"is_causal": True}, "config.json: is_causal -> false"),
    "states": ({"target_layer_ids": [2, 1, 0]}, "config.json: target_layer_ids -> [0, 1, 2]"),
    "mask": ({"mask_token_id": 222}, "222 is not it"),
    "base": ({"rope_theta": 1e6}, "config.json: rope_theta -> 10000"),
}


QUICK = ("states", "mask")
"""The others take twice as long to be found by the same search."""
PLAIN = {"is_causal", "target_layer_ids", "mask_token_id"}
"""Fields that a reading replaces as they are, so that a reading's score is the same whatever the file
says. What follows from another base of rotations is computed anew.
"""
_SCORES: dict[BlockReading, ReadingScore] = {}


def known_scores(patient: BlockPatient) -> None:
    """Measure each reading of the embedded drafter once, for all tests."""
    measure = patient.measure

    def known(reading: BlockReading) -> ReadingScore:
        if reading not in _SCORES:
            _SCORES[reading] = measure(reading)
        return _SCORES[reading]

    patient.measure = known  # type: ignore[method-assign]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "cure"),
    [defect if name in QUICK else exhaustive(*defect) for name, defect in DEFECTS.items()],
    ids=DEFECTS,
)
def test_what_the_files_say_otherwise_is_named(
    tmp_path: Path, fields: dict[str, object], cure: str
) -> None:
    target, texts = embedded()
    drafter = tmp_path / "drafter"
    shutil.copytree(EMBEDDED / "text-dflash", drafter)
    edit_config(drafter, **fields)
    patient = examined(target, drafter, texts)
    if set(fields) <= PLAIN:
        known_scores(patient)
    found = diagnose(patient, patient.nothing)
    assert found.outcome is DoctorOutcome.MISREAD
    assert any(cure in line for line in patient.cures(found.findings.best))


@pytest.mark.slow
def test_the_trained_drafter_is_read_as_trained() -> None:
    target, texts = embedded()
    patient = examined(target, EMBEDDED / "text-dflash", texts)
    known_scores(patient)
    found = diagnose(patient, patient.nothing)
    assert found.findings.best == patient.readings.written()
    assert found.outcome in (DoctorOutcome.RIGHT, DoctorOutcome.UNDECIDED)


def test_more_drafts_than_the_block_has_are_refused(
    folder: Path, target: LoadedModel, tmp_path: Path
) -> None:
    drafter = write_block(tmp_path / "block", folder, *KINDS["DFlash, z-lab"], ids=(1, 3), block=3)
    texts = decode(target, None, [[0, 2, 3]], k=0, new_tokens=16).texts
    with pytest.raises(RequestError, match=r"k=3: .* was trained to draft 2 tokens in a round"):
        examined(target, drafter, texts)
