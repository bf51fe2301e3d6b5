"""MTP layers under readings: the written one is replay's, and a defect in the file is undone by its
reading.
"""

from __future__ import annotations

import functools
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.embedded import PROMPTS
from helpers.support import EMBEDDED
from helpers.tiers import some
from museum.edits import Config, Edit, Weights, head_layers, swapped_halves, uneven_norm
from safetensors.torch import load_file, save_file

from pytest_specdec import replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text, texts_of_prompts
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.doctor.diagnosis import DoctorOutcome, diagnose
from pytest_specdec.doctor.mtp_patient import MtpPatient

K, NEW, TEXTS = 3, 48, 24


@functools.cache
def texts() -> tuple[Text, ...]:
    target = load_model(str(EMBEDDED / "text-target"), "cpu")
    prompts = read_prompts(PROMPTS)[:TEXTS]
    ids = encode_prompts(target.tokenizer, prompts)
    new = sample_new_tokens(target, ids, new_tokens=NEW, sampling=Sampling(1.0), seed=1)
    return texts_of_prompts(prompts, ids, new)


def edited(folder: Path, *edits: Edit) -> LoadedModel:
    """The embedded target with edited weights."""
    shutil.copytree(EMBEDDED / "text-target", folder, ignore=shutil.ignore_patterns("openvino"))
    weights = load_file(folder / "model.safetensors")
    for edit in edits:
        edit(weights, {})
    held = {name: tensor.contiguous().clone() for name, tensor in weights.items()}
    save_file(held, folder / FILE)
    return load_model(str(folder), "cpu")


FILE = "model.safetensors"


def swapped_norms(weights: Weights, config: Config) -> None:
    for layer in head_layers(weights):
        names = f"{layer}.enorm.weight", f"{layer}.hnorm.weight"
        weights[names[0]], weights[names[1]] = weights[names[1]], weights[names[0]]


def for_states_before_the_norm(weights: Weights, config: Config) -> None:
    """The first layer as if it had been trained on the target's states before the last norm."""
    weights[f"{head_layers(weights)[0]}.hnorm.weight"] *= weights["model.norm.weight"]


def for_carries_before_the_norm(weights: Weights, config: Config) -> None:
    """Later layers as if each had been trained on what the one before has before its norm."""
    layers = head_layers(weights)
    for before, layer in itertools.pairwise(layers):
        weights[f"{layer}.hnorm.weight"] *= weights[f"{before}.post_norm.weight"]


@pytest.mark.parametrize("k", [2, 5])
def test_the_written_reading_is_that_of_replay(k: int) -> None:
    target = load_model(str(EMBEDDED / "text-target"), "cpu")
    patient = MtpPatient(target, texts()[:6], Sampling(1.0), k)
    measured = patient.measure(patient.readings.written()).counts
    expected = replay(target, "mtp", texts()[:6], k=k, depth=min(k, 3))
    assert np.allclose(measured.accepted, expected.accepted, atol=1e-4)
    assert np.allclose(measured.rounds, expected.rounds, atol=1e-4)


DEFECTS: dict[str, tuple[list[Edit], dict[str, Any], str]] = {
    "halves of eh_proj": ([swapped_halves], {"hidden_first": True}, "mtp_hidden_states_first"),
    "norms": ([uneven_norm, swapped_norms], {"norms_swapped": True}, "swap enorm.weight"),
    "the target's state": (
        [uneven_norm, for_states_before_the_norm],
        {"first_normed": False},
        "before the last norm",
    ),
    "the state handed on": (
        [uneven_norm, for_carries_before_the_norm],
        {"carry_normed": False},
        "before their last norm",
    ),
    "two at once": (
        [uneven_norm, swapped_halves, for_states_before_the_norm],
        {"first_normed": False, "hidden_first": True},
        "before the last norm",
    ),
}


@pytest.mark.parametrize(("edits", "found", "cure"), some(DEFECTS.values(), 2), ids=DEFECTS)
def test_defects_are_named(
    tmp_path: Path, edits: list[Edit], found: dict[str, Any], cure: str
) -> None:
    patient = MtpPatient(edited(tmp_path / "target", *edits), texts(), Sampling(1.0), K)
    diagnosis = diagnose(patient, patient.nothing)
    best, written = diagnosis.findings.best, diagnosis.findings.written
    assert {
        name: value for name, value in vars(best).items() if value != getattr(written, name)
    } == found
    assert diagnosis.outcome is DoctorOutcome.MISREAD
    assert any(cure in line for line in patient.cures(best))


@pytest.mark.parametrize("edits", [[], [uneven_norm]], ids=["as it is", "uneven norms"])
def test_right_layers_are_not_accused(tmp_path: Path, edits: list[Edit]) -> None:
    patient = MtpPatient(edited(tmp_path / "target", *edits), texts(), Sampling(1.0), K)
    assert diagnose(patient, patient.nothing).outcome in (
        DoctorOutcome.RIGHT,
        DoctorOutcome.UNDECIDED,
    )
