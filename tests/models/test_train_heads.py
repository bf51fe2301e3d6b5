"""The general tool that trains heads: texts, features, EAGLE-3 heads and MTP layers of a target that
it has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from head_features import FeatureTexts, write_features
from head_training import HeadInTraining, HeadTraining, TrainingRecipe
from helpers.support import EMBEDDED
from safetensors.torch import load_file, save_file
from sampled_texts import SamplingPlan, sample_texts
from train_heads import Eagle3InTraining, MtpInTraining, new_eagle3

from pytest_specdec import LoadedModel, decode, load_model
from pytest_specdec.checkpoints.eagle3_config import usual_states

RECIPE = TrainingRecipe(steps=8, draft_steps=2, tokens=256, seed=3)


@pytest.fixture(scope="module")
def target() -> LoadedModel:
    return load_model(str(EMBEDDED / "deep-target"), "cpu")


@pytest.fixture(scope="module")
def texts(target: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    prompts = [[0, first, first + 1, *range(first % 5)] for first in range(300, 396)]
    folder = tmp_path_factory.getbasetemp() / "heads" / "texts"
    return sample_texts(
        target, prompts, folder, SamplingPlan(new_tokens=24, batch=40), show=lambda line: None
    )


@pytest.fixture(scope="module")
def features(
    target: LoadedModel, texts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> FeatureTexts:
    base = tmp_path_factory.getbasetemp() / "heads"
    layers = usual_states(target.model.config.num_hidden_layers)
    write_features(target, layers, base / "texts", base / "features", show=lambda line: None)
    return FeatureTexts([base / "features"])


def eagle3(target: LoadedModel, folder: Path) -> HeadInTraining:
    new_eagle3(target, folder, torch.arange(0, 1024, 2), seed=1)
    return Eagle3InTraining(target, folder, torch.arange(0, 512, 2))


def mtp(target: LoadedModel, folder: Path) -> HeadInTraining:
    torch.manual_seed(1)
    layers = MtpInTraining(target, 2, torch.arange(512), folder)
    layers.begin(scale=1.0)
    return layers


Maker = Callable[[LoadedModel, Path], HeadInTraining]
BOTH = pytest.mark.parametrize("make", [eagle3, mtp], ids=["eagle3", "mtp"])


def test_greedy_texts_are_those_of_decode(target: LoadedModel, texts: list[list[int]]) -> None:
    greedy = texts[::3]
    prompts = [text[: len(text) - 24] for text in greedy]
    decoded = decode(target, None, prompts, k=0, temperature=0, new_tokens=24)
    equal = [list(text.ids) == ids for text, ids in zip(decoded.texts, greedy, strict=True)]
    assert sum(equal) == len(equal) == 32


def test_sampling_goes_on_after_the_parts_that_are_kept(
    target: LoadedModel, texts: list[list[int]], tmp_path: Path
) -> None:
    prompts = [text[: len(text) - 24] for text in texts]
    plan = SamplingPlan(new_tokens=24, batch=40)

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_texts(target, prompts, tmp_path, plan, show=stop)
    assert len(list(tmp_path.glob("part-*.safetensors"))) == 1
    assert sample_texts(target, prompts, tmp_path, plan, show=lambda line: None) == texts


def test_features_are_the_targets_own(target: LoadedModel, features: FeatureTexts) -> None:
    batch = features.batch([0, 40, 95])
    row, length = batch.ids[1], int(batch.lengths[1])
    with torch.inference_mode():
        out = target.model(row[None, :length], output_hidden_states=True)
    layers = usual_states(target.model.config.num_hidden_layers)
    joined = torch.cat([out.hidden_states[number] for number in layers], -1)[0]
    assert torch.allclose(batch.joined[1, :length].float(), joined, rtol=0.01, atol=0.02)
    assert torch.equal(batch.best[1, :length], out.logits[0].argmax(-1))
    assert torch.allclose(batch.mass[1, :length], out.logits[0].logsumexp(-1), atol=1e-4)
    assert batch.prompts.tolist() == (batch.lengths - 24).tolist()


@BOTH
def test_a_head_learns(
    make: Maker, target: LoadedModel, features: FeatureTexts, tmp_path: Path
) -> None:
    recipe = TrainingRecipe(steps=60, draft_steps=2, tokens=512, seed=3)
    training = HeadTraining(
        make(target, tmp_path / "head"), features, recipe, tmp_path / "kept.safetensors"
    )
    before, _ = training.acceptance()
    training.run(every=60)
    after, _ = training.acceptance()
    assert after[0] > before[0] + 0.05
    assert json.loads(json.dumps(training.report))["tokens"] == features.tokens


def test_the_first_draft_step_can_be_trained_alone_first(
    target: LoadedModel, features: FeatureTexts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = eagle3(target, tmp_path / "head")
    drafts, trained = head.drafts, []

    def counted(*arguments: object) -> object:
        if torch.is_grad_enabled():
            trained.append(arguments[1])
        return drafts(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(head, "drafts", counted)
    recipe = TrainingRecipe(steps=4, draft_steps=2, first_alone=0.5, tokens=256, seed=3)
    HeadTraining(head, features, recipe, tmp_path / "kept.safetensors").run()
    assert trained == [1, 1, 2, 2]


@BOTH
def test_a_stopped_training_ends_as_one_in_one_piece(
    make: Maker, target: LoadedModel, features: FeatureTexts, tmp_path: Path
) -> None:
    def stop(line: str) -> None:
        if line.startswith("step 4"):
            raise KeyboardInterrupt

    ended = []
    for name, show in (("whole", lambda line: None), ("stopped", stop)):
        kept, folder = tmp_path / f"{name}.safetensors", tmp_path / name
        training = HeadTraining(make(target, folder), features, RECIPE, kept, show)
        if name == "stopped":
            with pytest.raises(KeyboardInterrupt):
                training.run(every=2)
            training = HeadTraining(make(target, folder), features, RECIPE, kept, lambda line: None)
        training.run(every=2)
        (file,) = folder.glob("*.safetensors")
        ended.append(load_file(file))
    assert ended[0].keys() == ended[1].keys()
    assert all(torch.equal(ended[0][name], ended[1][name]) for name in ended[0])


def test_a_checkpoint_of_another_recipe_is_refused(
    target: LoadedModel, features: FeatureTexts, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.safetensors"
    HeadTraining(eagle3(target, tmp_path / "a"), features, RECIPE, kept).run()
    other = TrainingRecipe(steps=8, draft_steps=2, tokens=256, seed=4)
    with pytest.raises(SystemExit, match="another recipe; delete it"):
        HeadTraining(eagle3(target, tmp_path / "a"), features, other, kept).run()


def test_an_eagle3_head_decodes(
    target: LoadedModel, features: FeatureTexts, tmp_path: Path
) -> None:
    folder = tmp_path / "head"
    head = eagle3(target, folder)
    HeadTraining(head, features, RECIPE, tmp_path / "kept.safetensors").run()
    plain = decode(target, None, [[0, 301, 302]], k=0, temperature=0, new_tokens=16)
    drafted = decode(target, str(folder), [[0, 301, 302]], k=3, temperature=0, new_tokens=16)
    assert drafted.texts == plain.texts


def test_mtp_layers_join_their_targets_checkpoint(
    target: LoadedModel, features: FeatureTexts, tmp_path: Path
) -> None:
    head = mtp(target, tmp_path / "mtp")
    HeadTraining(head, features, RECIPE, tmp_path / "kept.safetensors").run()
    joined = tmp_path / "joined"
    joined.mkdir()
    for file in (EMBEDDED / "deep-target").glob("*.json"):
        (joined / file.name).write_bytes(file.read_bytes())
    tensors = load_file(EMBEDDED / "deep-target" / "model.safetensors")
    heads = load_file(tmp_path / "mtp" / "mtp.safetensors")
    save_file(tensors | heads, joined / "model.safetensors", {"format": "pt"})
    config = json.loads((joined / "config.json").read_text()) | {"num_mtp_layers": 2}
    (joined / "config.json").write_text(json.dumps(config))
    plain = decode(str(joined), None, [[0, 301, 302]], k=0, temperature=0, new_tokens=16)
    drafted = decode(
        str(joined), "mtp", [[0, 301, 302]], k=2, depth=2, temperature=0, new_tokens=16
    )
    assert drafted.texts == plain.texts
