"""MTP layers that are fitted by least squares, on the embedded target of three layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fit_mtp import MtpFit, kept_tensors
from head_features import FeatureTexts, write_features
from head_training import HeadTraining, TrainingRecipe
from helpers.support import EMBEDDED
from sampled_texts import SamplingPlan, sample_texts

from pytest_specdec import LoadedModel, load_model


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(EMBEDDED / "deep-target"), "cpu")


@pytest.fixture(scope="module")
def features(target: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> FeatureTexts:
    prompts = [[0, first, first + 1, *range(first % 5)] for first in range(300, 396)]
    folder = tmp_path_factory.mktemp("fit")
    plan = SamplingPlan(new_tokens=24, batch=40)
    sample_texts(target, prompts, folder / "texts", plan, show=lambda line: None)
    layers = (target.model.config.num_hidden_layers - 1,)
    write_features(target, layers, folder / "texts", folder / "states", show=lambda line: None)
    return FeatureTexts([folder / "states"])


def begun(target: LoadedModel, folder: Path) -> MtpFit:
    torch.manual_seed(1)
    fit = MtpFit(target, 2, torch.arange(512), folder)
    fit.begin(scale=1.0)
    return fit


def test_fitted_layers_draft_better_than_those_they_begin_as(
    target: LoadedModel, features: FeatureTexts, tmp_path: Path
) -> None:
    fit = begun(target, tmp_path)
    judged = HeadTraining(fit, features, TrainingRecipe(steps=0, draft_steps=2), tmp_path / "none")
    before = judged.acceptance()
    held = set(judged.held_out)
    fit.fit(features, [row for row in range(len(features)) if row not in held])
    for first, second in zip(before, judged.acceptance(), strict=True):
        assert all(after > early + 0.05 for early, after in zip(first, second, strict=True))


def test_a_projection_is_the_least_squares_solution(
    target: LoadedModel, features: FeatureTexts, tmp_path: Path
) -> None:
    fit, rows = begun(target, tmp_path), range(len(features))
    fit.fit(features, rows)
    for index, layer in enumerate(fit.layers):
        equations = [fit.equations(batch, index) for batch in fit.batches(features, rows)]
        read, wanted = (
            torch.cat(part).detach().double().numpy() for part in zip(*equations, strict=True)
        )
        best = np.linalg.lstsq(read, wanted, rcond=None)[0]
        fitted = layer.eh_proj.weight.detach().double().numpy().T
        left = [((wanted - read @ found) ** 2).sum() for found in (best, fitted)]
        assert left[0] <= left[1] <= 1.02 * left[0]


def test_the_projections_alone_are_kept(target: LoadedModel, tmp_path: Path) -> None:
    fit = begun(target, tmp_path)
    kept, layers = kept_tensors(fit), target.model.config.num_hidden_layers
    assert sorted(kept) == [f"model.layers.{layers + index}.eh_proj.weight" for index in (0, 1)]
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
