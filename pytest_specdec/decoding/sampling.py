"""Texts sampled from a target, where the stored ones do not fit it."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ..cases.case import Sampling
from ..cases.prompts import Prompt
from ..common.errors import RequestError
from .chat_template import check_chat_template
from .distributions import check_logits
from .keyed_noise import KeyedNoise, text_keys
from .loading import LoadedModel
from .processors import BatchProcessors, Processors, check_alive
from .replay import Progress
from .text_limits import check_context, check_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SAMPLED_TOGETHER = 32
"""Texts that are sampled in one batch."""


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """Token ids of each prompt; messages go through the tokenizer's chat template.

    Raises RequestError for messages without a chat template, for a template that cannot be
    rendered safely, or a prompt that becomes no token.
    """
    encoded = []
    if tokenizer.chat_template is not None:
        check_chat_template(tokenizer, prompts)
    for prompt in prompts:
        if prompt.text is not None:
            ids = tokenizer(prompt.text)["input_ids"]
        elif tokenizer.chat_template is None:
            raise RequestError(
                "a prompt has messages and the tokenizer has no chat template; write it as plain "
                "`prompt` text"
            )
        else:
            ids = tokenizer.apply_chat_template(
                prompt.chat(),
                add_generation_prompt=True,
                return_dict=True,
                **dict(prompt.variables),
            )["input_ids"]
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
    keys: Sequence[str] | None = None,
    progress: Progress | None = None,
    processors: Processors | None = None,
) -> list[tuple[int, ...]]:
    """At most `new_tokens` tokens after each prompt by transformers' `generate`; EOS ends a text
    and is kept.

    The texts follow the target's distribution p under `sampling`, and nothing else that the
    checkpoint would add. Noise depends on the seed, the prompt's key and the step alone (see
    `keyed_noise`), so a text does not depend on the other prompts, nor on its batch beyond
    rounding. `keys` are the prompts' own, `Prompt.key` for instance; without them a prompt's tokens
    are its key, and copies of one prompt are numbered, so that each has its own text.

    Example: `sample_new_tokens(load_model("target"), [[1, 15, 7]], new_tokens=64,
    sampling=Sampling(0.8), seed=0)`. Raises MeasurementError for a target that returns NaN or
    infinite logits, and RequestError for a prompt that leaves no room in its context for the new
    tokens.
    """
    sampling.checked()
    longest = max(map(len, prompts), default=0) + new_tokens
    check_tokens([target], prompts)
    check_context([target], longest, new_tokens=new_tokens)
    stop = ending_tokens(target, processors)
    config = GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,  # the noise draws
        eos_token_id=stop or None,
        pad_token_id=0,
        bos_token_id=target.model.generation_config.bos_token_id,
    )
    noise = text_keys(seed, _keys_of_tokens(prompts) if keys is None else keys, target.device)
    texts: list[tuple[int, ...]] = []
    if progress:
        progress(0, len(prompts))
    for begin in range(0, len(prompts), SAMPLED_TOGETHER):
        batch = prompts[begin : begin + SAMPLED_TOGETHER]
        ids, mask = _left_padded(batch, target.device)
        changes = _padded_processors(processors, batch, ids.shape[1], stop)
        draws = (
            [KeyedNoise(sampling, noise[begin : begin + SAMPLED_TOGETHER], ids.shape[1])]
            if sampling.temperature > 0
            else []
        )
        with without_generation_defaults(target):
            out = target.model.generate(
                ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=LogitsProcessorList([SoundLogits(), *changes, *draws]),
            )
        texts += [up_to_end(row, stop) for row in out[:, ids.shape[1] :].tolist()]
        if progress:
            progress(len(texts), len(prompts))
    return texts


class SoundLogits(LogitsProcessor):  # type: ignore[misc]
    """Looks at a model's logits at every step of `generate`, and changes nothing."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, vocabulary) to the same. Raises MeasurementError for NaN and infinite logits."""
        check_logits(scores)
        return scores


def _padded_processors(
    processors: Processors | None, batch: Sequence[Sequence[int]], width: int, stop: Sequence[int]
) -> list[LogitsProcessor]:
    """The processors of a batch whose prompts are padded on the left to `width`."""
    if processors is None:
        return []
    paddings = [width - len(prompt) for prompt in batch]
    return [PaddedProcessors(processors.for_texts(batch), width, paddings, stop)]


class PaddedProcessors(LogitsProcessor):  # type: ignore[misc]
    """Processors of texts that `generate` decodes together, whose prompts are padded on the left to
    one length.
    """

    def __init__(
        self,
        processors: BatchProcessors,
        prompt_length: int,
        paddings: Sequence[int],
        stop: Sequence[int],
    ) -> None:
        self._processors, self._prompt_length = processors, prompt_length
        self._paddings, self._stop = paddings, torch.tensor(stop, dtype=torch.long)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(rows, length) and (rows, vocabulary) to (rows, vocabulary); rows that have ended stay as
        they are.
        """
        ended = torch.isin(
            input_ids[:, self._prompt_length :], self._stop.to(input_ids.device)
        ).any(1)
        processed = scores.float().clone()
        length = input_ids.shape[1]
        for row in (~ended).nonzero()[:, 0].tolist():
            rows = BatchProcessors([self._processors.rows[row]])
            ids = input_ids[row : row + 1, self._paddings[row] :]
            changed, dead = rows.target(
                ids, [length - self._paddings[row]], scores[row : row + 1, None]
            )
            check_alive(dead)
            processed[row] = changed[0, 0]
        return processed


def _keys_of_tokens(prompts: Sequence[Sequence[int]]) -> list[str]:
    """A key for each prompt from its tokens; the second copy of a prompt and later ones are
    numbered.
    """
    copies: collections.Counter[str] = collections.Counter()
    keys = []
    for prompt in prompts:
        key = ",".join(map(str, prompt))
        keys.append(f"{key} copy {copies[key]}" if copies[key] else key)
        copies[key] += 1
    return keys


@contextlib.contextmanager
def without_generation_defaults(target: LoadedModel) -> Iterator[None]:
    """Hide the checkpoint's own generation defaults, with which `generate` fills whatever a
    configuration leaves open.

    Under a penalty or min_p the texts would not be samples of the target.
    """
    defaults = target.model.generation_config
    target.model.generation_config = GenerationConfig(
        bos_token_id=defaults.bos_token_id, eos_token_id=None
    )
    try:
        yield
    finally:
        target.model.generation_config = defaults


def eos_ids(target: LoadedModel) -> list[int]:
    """Token ids that end a text, as the checkpoint's generation defaults name them."""
    eos = target.model.generation_config.eos_token_id
    return [] if eos is None else list(eos) if isinstance(eos, list) else [eos]


def ending_tokens(target: LoadedModel, processors: Processors | None) -> list[int]:
    """Token ids that end a text: the checkpoint's, and those by which a grammar ends."""
    return sorted({*eos_ids(target), *(() if processors is None else processors.ends)})


def up_to_end(ids: Sequence[int], stop: Collection[int]) -> tuple[int, ...]:
    """New tokens up to the first that ends a text, which is kept."""
    end = next((at + 1 for at, token in enumerate(ids) if token in stop), len(ids))
    return tuple(ids[:end])


def _left_padded(
    prompts: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    ids = [[*([0] * width), *prompt] for width, prompt in zip(padding, prompts, strict=True)]
    mask = [[0] * width + [1] * (longest - width) for width in padding]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
