"""Trained heads saved with a defect are named with their correction; right ones are not accused.

`make doctor-proof` measures all defects and twenty samples of texts.
"""

from __future__ import annotations

import re
from pathlib import Path

import doctor_proof
import pytest
from helpers.misread import DEFECTS, HEADS, MODELS, Misread, misread_copy
from helpers.support import ROOT
from helpers.tiers import some

from pytest_specdec.doctor.diagnosis import DoctorOutcome

SMALL = {"count": 16, "new_tokens": 32, "k": 3}
FEW = (
    "d2t holds the target's ids",
    "blocks of fc in another order",
    "fc_norm dropped",
    "norm_before_residual dropped",
)


@pytest.mark.parametrize(
    "defect",
    some([defect for defect in DEFECTS if defect.name in FEW], 2),
    ids=lambda defect: defect.name,
)
def test_defects_are_named(tmp_path: Path, defect: Misread) -> None:
    head = misread_copy(defect, tmp_path / "head")
    diagnosis = doctor_proof.examined(head, HEADS[defect.head], **SMALL)
    assert doctor_proof.names_it(defect, diagnosis)


@pytest.mark.parametrize("head", ["text-eagle3", "deep-speculators"])
def test_right_heads_are_not_accused(head: str) -> None:
    diagnosis = doctor_proof.examined(MODELS / head, HEADS[head], 1, **SMALL)
    assert diagnosis.outcome in (DoctorOutcome.RIGHT, DoctorOutcome.UNDECIDED)


def test_there_are_enough_defects_of_enough_heads() -> None:
    assert len(DEFECTS) >= 20
    assert {defect.head for defect in DEFECTS} == set(HEADS)
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
    assert set(FEW) < {defect.name for defect in DEFECTS}


def test_the_page_has_a_row_for_every_defect_and_head() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text()
    (measured,) = re.findall(
        r"<!-- doctor_proof.py -->\n(.*?)\n<!-- doctor_proof.py ends -->", page, re.S
    )
    rows = [
        (cells[0], cells[1])
        for cells in re.findall(
            r"^\| ([\w-]+) \| (.+?) \| [\d.]+, [\d.]+ \| yes \|$", measured, re.M
        )
    ]
    assert rows == [(defect.head, defect.name) for defect in DEFECTS]
    heads = re.findall(r"^\| ([\w-]+) \| [\d.]+ \| (\d+) \| \d+ \| \d+ \| 0 \|$", measured, re.M)
    assert heads == [(head, str(doctor_proof.SEEDS)) for head in HEADS]
