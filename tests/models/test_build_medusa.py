"""Training Medusa heads: they learn, and go on where they were stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from build_medusa import MedusaRecipe, MedusaTraining, write_new_heads
from eagle3_training import target_rows
from helpers.support import EMBEDDED
from safetensors.torch import load_file

from pytest_specdec.decoding.loading import LoadedModel, load_model

RECIPE = MedusaRecipe(heads=2, steps=4, batch=4, seed=7)


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(EMBEDDED / "text-target"), "cpu")


@pytest.fixture(scope="module")
def rows(target: LoadedModel) -> torch.Tensor:
    prompts = [[0, first, first + 1] for first in range(300, 312)]
    return target_rows(target, prompts, length=20, temperature=1.0, seed=1)


def training(
    folder: Path, target: LoadedModel, rows: torch.Tensor, recipe: MedusaRecipe = RECIPE
) -> MedusaTraining:
    write_new_heads(folder, target, recipe)
    return MedusaTraining(target, folder, rows, recipe)


def test_heads_learn(target: LoadedModel, rows: torch.Tensor, tmp_path: Path) -> None:
    learning = training(tmp_path / "heads", target, rows, dataclasses.replace(RECIPE, steps=40))
    before = learning._overlaps(rows)
    learning.run(tmp_path / "kept.safetensors", rows)
    after = learning._overlaps(rows)
    assert all(now > then + 0.05 for then, now in zip(before, after, strict=True))


def test_a_stopped_training_goes_on_to_the_same_weights(
    target: LoadedModel, rows: torch.Tensor, tmp_path: Path
) -> None:
    whole = training(tmp_path / "whole", target, rows)
    whole.run(tmp_path / "whole.safetensors", rows)
    kept = tmp_path / "kept.safetensors"
    stopped = training(tmp_path / "stopped", target, rows)
    stopped._learn(), stopped._learn()
    stopped._keep(kept)
    training(tmp_path / "resumed", target, rows).run(kept, rows)
    expected, found = (
        load_file(tmp_path / name / "medusa_lm_head.safetensors") for name in ("whole", "resumed")
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)
