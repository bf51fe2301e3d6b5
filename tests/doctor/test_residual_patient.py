"""Readings of Medusa and Hydra heads: the written one is replay's, and heads that were trained for
another one are found out.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.residual_heads import write_hydra, write_medusa
from helpers.support import EMBEDDED, llama
from safetensors.torch import load_file, save_file

from pytest_specdec import replay
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.doctor.diagnosis import DoctorOutcome, diagnose
from pytest_specdec.doctor.patients import patient_of
from pytest_specdec.doctor.residual_patient import ResidualPatient

pytestmark = pytest.mark.slow

K = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llama(tmp_path_factory.mktemp("target") / "llama", seed=3, layers=3, mtp_layers=0)


@pytest.fixture(scope="module")
def target(folder: Path) -> LoadedModel:
    return load_model(str(folder), "cpu")


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (write_medusa, {}),
        (write_medusa, {"packaging": "vLLM"}),
        (write_hydra, {}),
        (write_hydra, {"hidden_state_offset": 1}),
    ],
)
def test_the_written_reading_is_that_of_replay(
    folder: Path, target: LoadedModel, tmp_path: Path, write: Any, options: dict[str, Any]
) -> None:
    heads = write(tmp_path / "heads", folder, **options)
    prompts = [[0, 2 + row, 3 + row, 4] for row in range(10)]
    texts = decode(target, None, prompts, k=0, new_tokens=16, seed=5).texts
    examined = patient_of(target, str(heads), texts, Sampling(1.0), K)
    assert isinstance(examined, ResidualPatient)
    written = examined.readings.written()
    counts, expected = examined.measure(written).counts, replay(target, str(heads), texts, k=K)
    assert np.allclose(counts.accepted, expected.accepted, atol=1e-5)
    assert np.allclose(counts.rounds, expected.rounds, atol=1e-5)
    assert examined.words(written) == "as written"
    lengths = {
        round(examined.measure(reading).length, 6)
        for reading in [written, *examined.readings.neighbours(written)]
    }
    assert len(lengths) == 1 + len(examined.readings.neighbours(written))


def embedded_texts(target: LoadedModel) -> tuple[Text, ...]:
    lines = (EMBEDDED.parent / "text" / "prompts.jsonl").read_text().splitlines()[::4]
    prompts = [json.loads(line)["prompt"] for line in lines]
    return decode(target, None, prompts, k=0, new_tokens=40, seed=5).texts


def test_trained_heads_are_read_as_trained_and_shifted_ones_are_named(tmp_path: Path) -> None:
    target = load_model(str(EMBEDDED / "text-target"), "cpu")
    texts = embedded_texts(target)
    sound = patient_of(target, str(EMBEDDED / "text-medusa"), texts, Sampling(1.0), K)
    as_trained = diagnose(sound, sound.nothing, quiet)
    assert as_trained.findings.best == sound.readings.written()
    # The state before the norm is so near that few texts leave it open.
    assert as_trained.outcome in (DoctorOutcome.RIGHT, DoctorOutcome.UNDECIDED)
    shifted = shifted_heads(tmp_path / "shifted", target)
    examined = patient_of(target, str(shifted), texts, Sampling(1.0), K)
    found = diagnose(examined, examined.nothing, quiet)
    assert found.outcome is DoctorOutcome.MISREAD
    assert any("leave out head 0" in cure for cure in examined.cures(found.findings.best))
    better = examined.measure(found.findings.best).counts.accepted.sum()
    assert better == pytest.approx(sound.measure(sound.readings.written()).counts.accepted.sum())


def quiet(what: str, done: int, total: int) -> None:
    """Progress that nobody reads."""


def shifted_heads(folder: Path, target: LoadedModel) -> Path:
    """The trained heads behind one for the token that the target emits itself."""
    folder.mkdir()
    source = EMBEDDED / "text-medusa"
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"medusa_num_heads": 5}))
    held = load_file(source / "medusa_lm_head.safetensors")
    weights = {
        f"{int(name.partition('.')[0]) + 1}.{name.partition('.')[2]}": tensor
        for name, tensor in held.items()
    }
    weights["0.0.linear.weight"] = torch.zeros_like(held["0.0.linear.weight"])
    weights["0.0.linear.bias"] = torch.zeros_like(held["0.0.linear.bias"])
    weights["0.1.weight"] = target.model.get_output_embeddings().weight.detach().bfloat16().clone()
    save_file(weights, folder / "medusa_lm_head.safetensors")
    return folder


def test_what_loaders_refuse_is_refused(folder: Path, target: LoadedModel, tmp_path: Path) -> None:
    heads = write_medusa(tmp_path / "heads", folder)
    texts = decode(target, None, [[0, 2, 3]], k=0, new_tokens=16).texts
    with pytest.raises(RequestError, match="drafts at most 4 tokens in a round"):
        patient_of(target, str(heads), texts, Sampling(1.0), 5)
    assert dataclasses.is_dataclass(
        patient_of(target, str(heads), texts, Sampling(1.0), K).readings
    )
