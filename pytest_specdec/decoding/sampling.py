"""Texts sampled from a target, where the stored ones do not fit it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

from ..acceptance.case import Sampling
from ..acceptance.prompts import Prompt
from ..errors import RequestError
from .laws import check_numbers
from .loading import LoadedModel
from .replay import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ROWS = 32


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Token ids of each prompt; messages go through the tokenizer's chat template.

    Raises RequestError for messages without a chat template or a prompt that becomes no token.
    """
    encoded = []
    for prompt in prompts:
        if prompt.text is not None:
            ids = tokenizer(prompt.text)["input_ids"]
        elif tokenizer.chat_template is None:
            raise RequestError("a prompt has messages and the tokenizer has no chat template; write it as plain `prompt` text")
        else:
            ids = tokenizer.apply_chat_template(prompt.chat(), add_generation_prompt=True, return_dict=True)["input_ids"]
        if not ids:
            raise RequestError(f"prompt {prompt.text!r} becomes no token; write a longer one")
        encoded.append(list(ids))
    return encoded


@torch.inference_mode()
def sample_new_tokens(
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    *,
    new_tokens: int,
    sampling: Sampling,
    seed: int,
    progress: Progress | None = None,
) -> list[tuple[int, ...]]:
    """At most `new_tokens` tokens after each prompt by transformers' `generate`, seeded; EOS ends a text and is kept.

    The texts follow the target's law p under `sampling`, and nothing else that the checkpoint would add.
    """
    stop = eos_ids(target)
    config = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=sampling.temperature > 0,
        temperature=sampling.temperature or None,
        top_k=sampling.top_k if sampling.temperature else None,
        top_p=sampling.top_p if sampling.temperature else None,
        eos_token_id=stop or None,
        pad_token_id=0,
        bos_token_id=target.model.generation_config.bos_token_id,
    )
    if prompts:  # before any draw: on a GPU one from NaN would end the process's use of it
        check_numbers(target.model(torch.tensor([list(prompts[0])], device=target.device), use_cache=False).logits)
    texts: list[tuple[int, ...]] = []
    devices = [target.device] if target.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        if progress:
            progress(0, len(prompts))
        for begin in range(0, len(prompts), _ROWS):
            batch = prompts[begin : begin + _ROWS]
            ids, mask = _left_padded(batch, target.device)
            with own_defaults_aside(target):
                out = target.model.generate(ids, attention_mask=mask, generation_config=config)
            texts += [_until_eos(row, stop) for row in out[:, ids.shape[1] :].tolist()]
            if progress:
                progress(len(texts), len(prompts))
    return texts


@contextlib.contextmanager
def own_defaults_aside(target: LoadedModel) -> Iterator[None]:
    """Hide the checkpoint's own generation defaults, with which `generate` fills whatever a configuration leaves open.

    Under a penalty or min_p the texts would be no samples of the target.
    """
    own = target.model.generation_config
    target.model.generation_config = GenerationConfig(bos_token_id=own.bos_token_id, eos_token_id=None)
    try:
        yield
    finally:
        target.model.generation_config = own


def eos_ids(target: LoadedModel) -> list[int]:
    """Token ids that end a text, as the checkpoint's generation defaults name them."""
    eos = target.model.generation_config.eos_token_id
    return [] if eos is None else list(eos) if isinstance(eos, list) else [eos]


def _until_eos(ids: list[int], stop: list[int]) -> tuple[int, ...]:
    end = next((at + 1 for at, token in enumerate(ids) if token in stop), len(ids))
    return tuple(ids[:end])


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, prompts))
    ids = torch.tensor([[*([0] * (longest - len(own))), *own] for own in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(own)) + [1] * len(own) for own in prompts], device=device)
    return ids, mask
