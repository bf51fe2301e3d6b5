"""The audio draft model is distilled from the target: it begins as parts of it, learns its
distributions, and goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import codec
import distil_audio
import pytest
import torch
from distil_audio import Distillation, DraftRecipe, Lessons, sampled_rows
from helpers.support import EMBEDDED, ROOT
from safetensors.torch import load_file

from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.decoding.loading import LoadedModel, load_model

RECIPE = DraftRecipe(steps=6, schedule=8, batch=2, seed=7)
SHORT = 61
"""Tokens of a row in these tests."""


@pytest.fixture(scope="module", autouse=True)
def short_rows() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distil_audio, "LENGTH", SHORT)
        yield


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(EMBEDDED / "audio-target"), "cpu")


@pytest.fixture(scope="module")
def rows(
    target: LoadedModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[torch.Tensor, torch.Tensor]:
    texts = read_prompts(ROOT / "suites" / "audio" / "prompts.jsonl", 8)
    prompts = [target.tokenizer(prompt.text)["input_ids"] for prompt in texts]
    kept = tmp_path_factory.mktemp("kept") / "rows.safetensors"
    made = sampled_rows(target, lambda: prompts, 3, kept)

    def never() -> list[list[int]]:
        raise AssertionError("kept rows are sampled once more")

    again = sampled_rows(target, never, 3, kept)
    assert all(map(torch.equal, made, again))
    assert sorted(map(len, prompts)) == made[1].tolist()
    begun = {tuple(ids[:length]) for ids, length in zip(made[0].tolist(), made[1], strict=True)}
    assert begun == set(map(tuple, prompts))
    return made


@pytest.fixture(scope="module")
def lessons(target: LoadedModel, rows: tuple[torch.Tensor, torch.Tensor]) -> Lessons:
    return Lessons.of(target, *rows)


def test_the_labels_are_the_targets_distributions_and_contexts_are_not_learnt(
    target: LoadedModel, lessons: Lessons, rows: tuple[torch.Tensor, torch.Tensor]
) -> None:
    ids, lengths = rows
    first = distil_audio.FIRST_LABEL
    with torch.no_grad():
        whole = target.model(ids[:1]).logits[0].softmax(-1)
    assert lessons.labels.shape == (len(ids), SHORT - first, 287)
    assert lessons.labels[0].float().exp() == pytest.approx(whole[first - 1 : -1], abs=1e-3)
    for row, length in enumerate(lengths.tolist()):
        learnt = [first + at for at in lessons.new[row].nonzero()[:, 0].tolist()]
        assert learnt == list(range(max(length, first), SHORT))


def test_a_draft_begins_as_parts_of_the_target_and_learns_the_rest(
    target: LoadedModel, lessons: Lessons, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, steps=16, schedule=16, rate=2e-3)
    training = Distillation(target, recipe, lessons, tmp_path / "kept.safetensors")
    before = training.overlaps(lessons)
    assert before[0] > 0.7
    assert max(before[1:]) < 0.1
    training.run(lessons, every=16)
    after = training.overlaps(lessons)
    assert after[0] > before[0]
    assert after[2] > before[2] + 0.05


def test_overlaps_are_the_shares_of_accepted_audio_drafts(
    target: LoadedModel, lessons: Lessons, tmp_path: Path
) -> None:
    training = Distillation(target, RECIPE, lessons, tmp_path / "kept.safetensors")
    first = distil_audio.FIRST_LABEL
    shares = []
    for row in range(len(lessons.ids)):
        with torch.no_grad():
            p, q = (
                model(lessons.ids[row : row + 1]).logits[0].softmax(-1)
                for model in (target.model, training.model)
            )
        for at in lessons.new[row].nonzero()[:, 0].tolist():
            if lessons.ids[row, first + at] >= codec.FIRST_AUDIO:
                place = first + at - 1
                shares.append(torch.minimum(p[place], q[place]).sum().item())
    assert training.overlaps(lessons)[0] == pytest.approx(sum(shares) / len(shares), abs=1e-3)


def test_a_stopped_distillation_goes_on_where_it_was_saved(
    target: LoadedModel, lessons: Lessons, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Distillation(target, RECIPE, lessons, tmp_path / "whole.safetensors")
    whole.run(lessons, every=6)
    stopped = Distillation(target, RECIPE, lessons, tmp_path / "kept.safetensors")
    learn = stopped._learn

    def until_the_fourth() -> float:
        if stopped._step == 4:
            raise KeyboardInterrupt
        return learn()

    stopped._learn = until_the_fourth  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.run(lessons, every=2)
    capsys.readouterr()
    again = Distillation(target, RECIPE, lessons, tmp_path / "kept.safetensors")
    again.run(lessons, every=2)
    assert "step 6/6" in capsys.readouterr().out.splitlines()[0]
    ended, through = (load_file(tmp_path / f"{name}.safetensors") for name in ("kept", "whole"))
    assert ended.keys() == through.keys()
    assert all(torch.equal(ended[name], through[name]) for name in ended)


def test_the_checkpoint_of_another_recipe_is_not_gone_on_from(
    target: LoadedModel, lessons: Lessons, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = dataclasses.replace(RECIPE, steps=2)
    for seed in (7, 8):
        other = dataclasses.replace(recipe, seed=seed)
        Distillation(target, other, lessons, tmp_path / "kept.safetensors").run(lessons, every=1)
    assert [line.split(" loss")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"audio-draft step {step}/2" for step in (1, 2, 1, 2)
    ]


def test_what_is_saved_is_the_rounded_draft_and_its_overlap(
    target: LoadedModel, lessons: Lessons, tmp_path: Path
) -> None:
    training = Distillation(target, RECIPE, lessons, tmp_path / "kept.safetensors")
    overlaps = training.save(tmp_path / "audio-draft", lessons)
    weights = load_file(tmp_path / "audio-draft" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    loaded = load_model(str(tmp_path / "audio-draft"), "cpu")
    assert loaded.heads.num_mtp_layers == 3
    assert {tensor.dtype for tensor in loaded.model.parameters()} == {torch.float32}
    training.model, training.heads = loaded.model, loaded.heads
    assert training.overlaps(lessons) == pytest.approx(overlaps, abs=1e-6)


def test_the_committed_draft_is_of_its_recipe() -> None:
    folder = EMBEDDED / "audio-draft"
    card = json.loads((folder / "training.json").read_text())
    recipe = json.loads(json.dumps(dataclasses.asdict(DraftRecipe())))
    assert card["recipe"] == recipe
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] == len(recipe["target_layers"])
    assert config["num_mtp_layers"] == len(recipe["mtp_layers"])
    assert card["distilled_from"] == "audio-target"
    assert [card["held_out_overlap"][head] > 0.85 for head in (0, 2)] == [True, True]
