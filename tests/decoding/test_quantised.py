"""A target as a quantising package saves it is measured like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from helpers.support import EMBEDDED
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from pytest_specdec import decode, load_model, replay

pytest.importorskip("bitsandbytes", reason="reads quantised weights: pip install bitsandbytes")


def test_decode_and_replay_agree_on_a_target_of_four_bits(tmp_path: Path) -> None:
    source, folder = EMBEDDED / "text-target", tmp_path / "target-nf4"
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=config, device_map="cpu"
    )
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copyfile(source / name, folder / name)
    target, draft = load_model(str(folder), "cpu"), load_model(str(EMBEDDED / "text-draft"), "cpu")
    plain = load_model(str(source), "cpu")
    ids = torch.tensor([[1, 5, 9, 12]])
    assert not torch.allclose(target.model(ids).logits, plain.model(ids).logits, atol=1e-2)
    prompts = ["The function returns", "A list of"]
    decoded = decode(target, draft, prompts, k=4, new_tokens=32, temperature=0)
    counts = replay(target, draft, decoded.texts, k=4, temperature=0)
    assert counts.total_rounds == decoded.counts.total_rounds
    assert counts.acceptance_length == pytest.approx(decoded.counts.acceptance_length)
