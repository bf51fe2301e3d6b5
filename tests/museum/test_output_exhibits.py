"""A defect of output that one kind of model has, built into this project's decoder: recurrent states
keep what rejected drafts put into them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from helpers.architectures import ARCHITECTURES, VOCABULARY, publish

from pytest_specdec.decoding import ragged
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.lossless.texts.conformance import conformance

PROMPTS = [[1, 2, 3, 1, 2], [4, 7, 4, 7, 4], [5, 2, 9, 5, 2, 9, 5]]
NEW = 24


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("draft") / "deepseek_v3"
    publish(ARCHITECTURES["deepseek_v3"], folder, seed=5)
    return load_model(str(folder), "cpu")


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Random weights of Qwen3-Next: layers of linear attention, whose state is one for all tokens
    before.
    """
    folder = tmp_path_factory.mktemp("hybrid") / "qwen3_next"
    publish(ARCHITECTURES["qwen3_next"], folder, seed=3)
    return load_model(str(folder), "cpu")


def keep_recurrent_states(patch: pytest.MonkeyPatch) -> None:
    """Rejected drafts are taken out of keys and values alone (vllm-project/vllm#39273)."""
    roll_back = ragged.roll_back

    def broken(cache: Any, *arguments: Any, **named: Any) -> None:
        with pytest.MonkeyPatch.context() as hidden:
            for layer in cache.layers:
                if hasattr(layer, "is_recurrent_states_initialized"):
                    hidden.setattr(layer, "is_recurrent_states_initialized", {})
            roll_back(cache, *arguments, **named)

    patch.setattr(ragged, "roll_back", broken)


def test_recurrent_states_of_rejected_drafts_are_found(
    hybrid: LoadedModel, draft: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_recurrent_states(monkeypatch)
    options: dict[str, Any] = {"k": 3, "temperature": 0, "new_tokens": NEW, "batch_size": 1}
    decoded = decode(hybrid, draft, PROMPTS, **options)
    assert any(one.accepted < one.drafted for rounds in decoded.rounds for one in rounds)
    found = conformance(hybrid, decoded.texts, temperature=0)
    assert not found.conforms
    assert "logits below the arg-max" in found.message
    first = found.bugs[0]
    rejected = next(
        one.start + one.accepted for one in decoded.rounds[first.text] if one.accepted < one.drafted
    )
    assert first.position > rejected  # right up to the round after a rejection


def test_the_text_of_the_same_model_without_drafts_conforms(hybrid: LoadedModel) -> None:
    texts = [_greedy(hybrid, prompt) for prompt in PROMPTS]
    found = conformance(
        hybrid, texts, prompt_lengths=[len(prompt) for prompt in PROMPTS], temperature=0
    )
    assert found.conforms, found.message


@torch.inference_mode()
def _greedy(model: LoadedModel, prompt: Sequence[int]) -> list[int]:
    """By whole passes, without a cache."""
    ids = list(prompt)
    for _ in range(NEW):
        logits = model.model(torch.tensor([ids]), use_cache=False).logits[0, -1, :VOCABULARY]
        ids.append(int(logits.argmax()))
    return ids
