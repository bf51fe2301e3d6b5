"""Training a head of any packaging: it learns, and goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import build_eagle3
import pytest
import torch
from build_eagle3 import HEADS, Head, build_head, config_of
from eagle3_training import Eagle3Training, HeadRecipe, drafted_tokens, target_rows, write_new_head
from helpers.support import EMBEDDED
from helpers.tiers import some
from safetensors.torch import load_file

from pytest_specdec.checkpoints.eagle3_checks import checked_head
from pytest_specdec.decoding.loading import LoadedModel, load_model

RECIPE = HeadRecipe(steps=6, draft_steps=3, batch=4, seed=7)


@functools.cache
def embedded(name: str) -> LoadedModel:
    return load_model(str(EMBEDDED / name), "cpu")


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    prompts = [[0, first, first + 1] for first in range(300, 324)]
    return target_rows(embedded(HEADS[0].target), prompts, length=24, temperature=1.0, seed=1)


def training(
    folder: Path, rows: torch.Tensor, recipe: HeadRecipe = RECIPE, head: Head = HEADS[0]
) -> Eagle3Training:
    target, drafted = embedded(head.target), drafted_tokens(rows, 1024, head.drafted)
    write_new_head(folder, config_of(head, target), target, drafted, recipe.seed)
    return Eagle3Training(target, folder, rows, recipe)


@pytest.mark.parametrize("head", some(HEADS, 2), ids=lambda head: head.name)
def test_a_head_of_any_packaging_learns(head: Head, rows: torch.Tensor, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=60)
    learning = training(tmp_path / "head", rows, recipe, head)
    before, _ = learning.acceptance(rows)
    lines: list[str] = []
    learning.run(tmp_path / "kept.safetensors", rows, every=30, show=lines.append)
    assert [line.split(" loss")[0] for line in lines] == ["head step 30/60", "head step 60/60"]
    saved = Eagle3Training(embedded(head.target), tmp_path / "head", rows, recipe)
    after, _ = saved.acceptance(rows)
    assert len(after) == 3
    assert all(now > then + 0.05 for now, then in zip(after, before, strict=True))


def test_a_stopped_training_goes_on_where_it_was_saved(rows: torch.Tensor, tmp_path: Path) -> None:
    whole = training(tmp_path / "whole", rows)
    whole.run(tmp_path / "whole.safetensors", rows, every=2, show=lambda line: None)

    def stop(line: str) -> None:
        if "step 4/" in line:
            raise KeyboardInterrupt

    kept = tmp_path / "kept.safetensors"
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "stopped", rows).run(kept, rows, every=2, show=stop)
    lines: list[str] = []
    training(tmp_path / "stopped", rows).run(kept, rows, every=2, show=lines.append)
    assert [line.split(" loss")[0] for line in lines] == ["stopped step 6/6"]
    ended, through = (
        load_file(tmp_path / name / "model.safetensors") for name in ("stopped", "whole")
    )
    assert ended.keys() == through.keys()
    assert all(torch.equal(ended[name], through[name]) for name in ended)


def test_the_checkpoint_of_another_recipe_is_not_gone_on_from(
    rows: torch.Tensor, tmp_path: Path
) -> None:
    kept, lines = tmp_path / "kept.safetensors", []
    for seed in (7, 8):
        other = dataclasses.replace(RECIPE, seed=seed)
        training(tmp_path / f"{seed}", rows, other).run(kept, rows, every=3, show=lines.append)
    assert [line.split(" loss")[0] for line in lines] == [
        f"{seed} step {step}/6" for seed in (7, 8) for step in (3, 6)
    ]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: head.name)
def test_a_committed_head_is_of_its_recipe(head: Head) -> None:
    theirs = embedded(head.target)
    files = checked_head(theirs.checkpoint, EMBEDDED / head.name)
    written = config_of(head, theirs)
    assert {name: files.checkpoint.config.get(name) for name in written} == written
    assert len(files.target_ids) == head.drafted
    weights = EMBEDDED / head.name / "model.safetensors"
    assert weights.stat().st_size < 1.5e6


def test_the_build_script_writes_a_head_that_drafts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.randint(2, 1024, (6000,), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(build_eagle3, "corpus", lambda tokenizer: (tokens, tokens))
    (built, *_) = HEADS
    build_head(built, tmp_path, 0.001, tmp_path / "kept")
    card = json.loads((tmp_path / built.name / "training.json").read_text())
    shares = card["held_out_conditional_acceptance"]
    assert shares.keys() == {"temperature 0", "temperature 1"}
    assert 0 < shares["temperature 1"][0] < 1
    committed = json.loads((EMBEDDED / built.name / "training.json").read_text())
    assert card.keys() == committed.keys()
