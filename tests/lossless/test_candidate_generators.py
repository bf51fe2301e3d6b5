"""The q contract of transformers' candidate generators that need models of their own: tiny ones,
with random weights.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from pytest_specdec.lossless.drafters.q_contract import Proposal, q_contract
from pytest_specdec.lossless.drafters.recorded import recorded_candidates

VOCABULARY, PROMPTS, NEW = 32, 8, 40
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.5,
}
OLD = "this transformers has no such drafter; install transformers 5.23 to run this test"


def proposals(
    target: PreTrainedModel, assistant: PreTrainedModel, **options: object
) -> list[Proposal]:
    config = GenerationConfig(
        **{"top_k": 0} | options,
        do_sample=True,
        max_new_tokens=NEW,
        pad_token_id=0,
        eos_token_id=None,
    )
    with recorded_candidates() as kept:
        for _ in range(PROMPTS):
            prompt = torch.randint(2, VOCABULARY - 1, (1, 5))
            target.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=config,
                assistant_model=assistant,
            )
    return kept


@pytest.mark.parametrize("filters", [{}, {"temperature": 0.7}, {"top_k": 5}], ids=str)
def test_dflash_keeps_it(filters: dict[str, float]) -> None:
    """It broke it up to huggingface/transformers#47961."""
    flash = pytest.importorskip("transformers.models.muse_glimmer_assistant", reason=OLD)
    torch.manual_seed(0)
    target = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, num_hidden_layers=3, max_position_embeddings=256, **SIZES
        )
    )
    config = flash.MuseGlimmerAssistantConfig(
        **SIZES,
        num_hidden_layers=2,
        head_dim=16,
        max_position_embeddings=256,
        block_size=4,
        mask_token_id=VOCABULARY - 1,
        target_layer_ids=[0, 2],
    )
    result = q_contract(
        proposals(
            target.eval(),
            flash.MuseGlimmerAssistantModel(config).eval(),
            speculation_type="dflash",
            **filters,
        )
    )
    assert result.kept, result.message
    assert result.drafts > 200


def gemma_4_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """A tiny Gemma 4 and its assistant."""
    models = pytest.importorskip("transformers.models.gemma4_assistant", reason=OLD)
    gemma = pytest.importorskip("transformers.models.gemma4", reason=OLD)
    text = gemma.Gemma4TextConfig
    of_target = text.kv_sharing_modes.fget

    def sharing(self: object) -> list[str | None]:
        """5.23 cannot build an assistant from a configuration: it looks for layers that store keys
        in the assistant.
        """
        every = self.num_kv_shared_layers == self.num_hidden_layers
        return ["reuse"] * self.num_hidden_layers if every else of_target(self)

    monkeypatch.setattr(text, "kv_sharing_modes", property(sharing))
    torch.manual_seed(0)
    sizes = {
        "vocab_size": VOCABULARY,
        "head_dim": 16,
        "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": 0,
        **SIZES,
    }
    kinds = ["sliding_attention", "full_attention"]
    target = gemma.Gemma4ForCausalLM(
        text(num_hidden_layers=4, num_kv_shared_layers=2, layer_types=2 * kinds, **sizes)
    )
    text_config = text(num_hidden_layers=2, num_kv_shared_layers=2, layer_types=kinds, **sizes)
    assistant = models.Gemma4AssistantForCausalLM(
        models.Gemma4AssistantConfig(text_config=text_config, backbone_hidden_size=32)
    )
    assistant.generation_config.num_assistant_tokens = 3
    return target.eval(), assistant.eval()


def test_gemma_4s_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its drafts are arg-maxima and its q is the softmax (transformers 5.23).

    When this fails, transformers has mended it: expect `found.kept` here.
    """
    result = q_contract(proposals(*gemma_4_pair(monkeypatch)))
    assert not result.kept
    assert "that distribution's" in result.message


def test_gemma_4s_reads_the_key_of_a_rejected_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rejection its drafts read one key more than the text has: why no text implies them
    (docs/drafters.md). When this fails, transformers has mended it, and they can be replayed.
    """
    target, assistant = gemma_4_pair(monkeypatch)
    seen: list[tuple[int, int]] = []
    forward = assistant.forward

    def watched(**arguments: Any) -> Any:
        keys, _ = arguments["shared_kv_states"]["full_attention"]
        seen.append((int(arguments["position_ids"]), keys.shape[2]))
        return forward(**arguments)

    monkeypatch.setattr(assistant, "forward", watched)
    proposals(target, assistant)
    more = {keys - position for position, keys in seen}  # `position` tokens were verified
    assert more == {0, 1}
