"""Last hidden states are recognised on either side of the final norm."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from pytest_specdec.decoding.final_norm import before_final_norm

SIZES = {
    "vocab_size": 32,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.fixture(params=["llama", "gemma"])
def target(request: pytest.FixtureRequest) -> PreTrainedModel:
    """Gemma's norms multiply by 1 + weight."""
    torch.manual_seed(0)
    if request.param == "llama":
        model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**SIZES))
    else:
        model = Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=32))
    with torch.no_grad():
        model.model.norm.weight.uniform_(0.3, 4.0)
    return model.eval()


def drawn(tokens: int) -> torch.Tensor:
    """States whose sizes differ as those of a trained model do."""
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(tokens, SIZES["hidden_size"], generator=generator)
    return states * (1 + torch.rand(tokens, 1, generator=generator))


def coarse(states: torch.Tensor) -> torch.Tensor:
    """In 8 bits with one scale a token, as hs_connectors keeps them."""
    scale = states.abs().amax(-1, keepdim=True) / torch.finfo(torch.float8_e4m3fn).max
    return (states / scale).to(torch.float8_e4m3fn).float() * scale


@torch.inference_mode()
@pytest.mark.parametrize(
    ("rounded", "error"),
    [(lambda x: x, 1e-5), (lambda x: x.bfloat16().float(), 0.005), (coarse, 0.08)],
    ids=["float32", "bfloat16", "float8"],
)
def test_the_norm_makes_the_same_of_both(target: PreTrainedModel, rounded, error: float) -> None:
    states, norm = drawn(40), target.model.norm
    normed = norm(states)
    found = norm(before_final_norm(target, rounded(normed)))
    torch.testing.assert_close(found, normed, rtol=error, atol=error * 0.3)
    assert before_final_norm(target, states) is states


@torch.inference_mode()
def test_other_norms_leave_states_as_they_are(target: PreTrainedModel) -> None:
    states = drawn(3)
    target.model.norm = torch.nn.LayerNorm(SIZES["hidden_size"])
    normed = target.model.norm(states)
    assert before_final_norm(target, normed) is normed
    del target.model.norm
    assert before_final_norm(target, states) is states
