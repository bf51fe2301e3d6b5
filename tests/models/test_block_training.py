"""Training a block drafter: it learns, and goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import pytest
import torch
from block_training import BlockRecipe, BlockTraining, write_new_block
from build_blocks import BLOCK, TARGET, config_of
from eagle3_training import target_rows
from helpers.support import EMBEDDED
from safetensors.torch import load_file

from pytest_specdec.decoding.loading import LoadedModel, load_model

RECIPE = BlockRecipe(steps=4, anchors=8, batch=4, seed=7)


@functools.cache
def text_target() -> LoadedModel:
    return load_model(str(EMBEDDED / TARGET), "cpu")


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    prompts = [[0, first, first + 1] for first in range(300, 316)]
    return target_rows(text_target(), prompts, length=24, temperature=1.0, seed=1)


def training(folder: Path, rows: torch.Tensor, recipe: BlockRecipe = RECIPE) -> BlockTraining:
    write_new_block(folder, config_of(text_target(), rows), text_target(), recipe.seed)
    return BlockTraining(text_target(), folder, rows, recipe)


def test_it_learns(rows: torch.Tensor, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=40)
    learning = training(tmp_path / "drafter", rows, recipe)
    before = learning.overlap(rows)
    lines: list[str] = []
    learning.run(tmp_path / "kept.safetensors", rows, every=20, show=lines.append)
    assert [line.split(" loss")[0] for line in lines] == [
        "drafter step 20/40",
        "drafter step 40/40",
    ]
    after = BlockTraining(text_target(), tmp_path / "drafter", rows, recipe).overlap(rows)
    assert len(after) == BLOCK - 1
    assert sum(after) > sum(before) + 0.2


def test_a_stopped_training_goes_on_where_it_was_saved(rows: torch.Tensor, tmp_path: Path) -> None:
    def silent(line: str) -> None:
        """Shows nothing."""

    kept = tmp_path / "kept.safetensors"
    training(tmp_path / "whole", rows).run(tmp_path / "whole.safetensors", rows, show=silent)
    stopped = training(tmp_path / "stopped", rows)
    for _ in range(2):
        stopped._learn()
    stopped._keep(kept)
    training(tmp_path / "stopped", rows).run(kept, rows, show=silent)
    whole, resumed = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped")
    )
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
