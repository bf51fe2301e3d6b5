"""Attention that shares keys by groups of heads, beside transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations import sdpa_attention

from pytest_specdec.decoding import ragged
from pytest_specdec.decoding.grouped_attention import grouped_attention
from pytest_specdec.decoding.live_model import live_model
from pytest_specdec.decoding.ragged import CachedModel, Sequences


def grouped_model(dtype: torch.dtype) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=128,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).eval().to(dtype)


def verified(model: LlamaForCausalLM) -> torch.Tensor:
    """Logits of four columns of two ragged rows after their prompts."""
    sequences = Sequences([[1, 2, 3], [4, 5, 6, 7, 8]], 8, torch.device("cpu"))
    cached = CachedModel(live_model(model), 12)
    cached.feed(sequences, sequences.lengths, 1)
    for step in range(3):
        sequences.put(step, torch.tensor([9 + step, 20 + step]))
    return cached.feed(sequences, sequences.lengths + 3, 4, sequences.agreed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_logits_are_those_of_transformers_and_no_key_is_copied(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, copies = grouped_model(dtype), []
    repeat = sdpa_attention.repeat_kv
    monkeypatch.setattr(
        sdpa_attention, "repeat_kv", lambda *given: copies.append(1) or repeat(*given)
    )
    ours = verified(model)
    assert not copies
    monkeypatch.setattr(ragged, "grouped_attention", lambda model: torch.inference_mode())
    theirs = verified(model)
    assert copies
    torch.testing.assert_close(ours, theirs)


def test_the_models_attention_is_its_own_afterwards_whatever_happens() -> None:
    model = grouped_model(torch.float32)
    lasting = grouped_attention(model)
    lasting.__enter__()
    assert model.config._attn_implementation != "sdpa"
    assert not lasting.__exit__(ValueError, ValueError("in a pass"), None)
    assert model.config._attn_implementation == "sdpa"


def test_a_model_of_eager_attention_is_left_as_it_is() -> None:
    model = grouped_model(torch.float32)
    model.set_attn_implementation("eager")
    with grouped_attention(model):
        assert model.config._attn_implementation == "eager"
