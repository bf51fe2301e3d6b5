"""Trained heads saved with a defect are named with their correction; right ones are not accused.

`make doctor-proof` measures all defects and twenty samples of texts.
"""

from __future__ import annotations

from pathlib import Path

import doctor_proof
import pytest
from helpers.misread import DEFECTS, HEADS, MODELS, Misread, misread_copy

from pytest_specdec.doctor.diagnosis import Outcome

SMALL = {"count": 16, "new_tokens": 32, "k": 3}
FEW = (
    "d2t holds the target's ids",
    "blocks of fc in another order",
    "fc_norm dropped",
    "norm_before_residual dropped",
)


@pytest.mark.parametrize(
    "defect", [defect for defect in DEFECTS if defect.name in FEW], ids=lambda defect: defect.name
)
def test_defects_are_named(tmp_path: Path, defect: Misread) -> None:
    head = misread_copy(defect, tmp_path / "head")
    diagnosis = doctor_proof.examined(head, HEADS[defect.head], **SMALL)
    assert doctor_proof.names_it(defect, diagnosis)


@pytest.mark.parametrize("head", ["text-eagle3", "deep-speculators"])
def test_right_heads_are_not_accused(head: str) -> None:
    diagnosis = doctor_proof.examined(MODELS / head, HEADS[head], 1, **SMALL)
    assert diagnosis.outcome in (Outcome.RIGHT, Outcome.UNDECIDED)


def test_there_are_enough_defects_of_enough_heads() -> None:
    assert len(DEFECTS) >= 20
    assert {defect.head for defect in DEFECTS} == set(HEADS)
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
    assert set(FEW) < {defect.name for defect in DEFECTS}
