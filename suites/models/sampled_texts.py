"""Texts that a target writes, by the hundred thousand tokens, to train heads on.

    sample_texts(target, prompts, Path("work/texts"), SamplingPlan(new_tokens=128))

Texts are kept in parts as they are done, and a run that was stopped goes on after the last of them.
On a CPU a batch of single tokens spends most of its time in attention that transformers copies
grouped keys for and in caches that grow by copying; both are replaced here.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.sampling import eos_ids

GROUPED = "grouped_rows"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    """How texts are sampled."""

    new_tokens: int
    temperatures: tuple[float, ...] = (0.0, 0.7, 1.0)
    """The temperature of every prompt in turn."""
    top_k: int = 64
    """Tokens that a draw chooses among."""
    batch: int = 192
    seed: int = 0


def sample_texts(
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    folder: Path,
    plan: SamplingPlan,
    show: Callable[[str], None] = print,
) -> list[list[int]]:
    """Prompts with what the target writes after them, in the order of the prompts.

    `folder` keeps them: `part-00000.safetensors` and so on, one for each batch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    texts: list[list[int]] = [[] for _ in prompts]
    begun, written, tokens = time.monotonic(), 0, 0
    parts = list(enumerate(range(0, len(order), plan.batch)))
    random.Random(plan.seed).shuffle(parts)  # so that any number of parts has texts of all lengths
    for done, (part, begin) in enumerate(parts, 1):
        rows = order[begin : begin + plan.batch]
        path = folder / f"part-{part:05}.safetensors"
        if not path.is_file():
            temperatures = [plan.temperatures[row % len(plan.temperatures)] for row in rows]
            generator = torch.Generator(target.device).manual_seed(plan.seed * 1_000_003 + part)
            new = _sampled(target, [prompts[row] for row in rows], temperatures, plan, generator)
            _write(path, new)
            written += sum(map(len, new)) - sum(len(prompts[row]) for row in rows)
        for row, text in zip(rows, read_part(path), strict=True):
            texts[row] = text
            tokens += len(text)
        rate = written / (time.monotonic() - begun)
        show(f"part {done} of {len(parts)}, {tokens} tokens, {rate:.0f} new a second")
    return texts


def read_part(path: Path) -> list[list[int]]:
    """The texts of one part."""
    part = load_file(path)
    return [ids.tolist() for ids in part["ids"].split(part["lengths"].tolist())]


def _write(path: Path, texts: Sequence[Sequence[int]]) -> None:
    ids = torch.tensor([token for text in texts for token in text], dtype=torch.int32)
    lengths = torch.tensor([len(text) for text in texts], dtype=torch.int32)
    unfinished = path.with_suffix(".unfinished")
    save_file({"ids": ids, "lengths": lengths}, unfinished)
    unfinished.replace(path)


@torch.inference_mode()
def _sampled(
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    plan: SamplingPlan,
    generator: torch.Generator,
) -> list[list[int]]:
    """Prompts and what follows, up to `new_tokens` tokens or an end-of-sequence token each."""
    device, longest = target.device, max(map(len, prompts))
    room = longest + plan.new_tokens
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    holds = torch.zeros(len(prompts), room, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        holds[row, longest - len(prompt) :] = True
    ids, holds = ids.to(device), holds.to(device)
    heat = torch.tensor(temperatures, device=device).clamp(min=1e-4)[:, None]
    texts, alive = [list(prompt) for prompt in prompts], list(range(len(prompts)))
    last = torch.tensor([-1], device=device)  # by index, as a slice would be strided: slow
    cache, stop = RoomyCache(target.model.config, room), set(eos_ids(target))
    with grouped_attention(target.model):
        for step in range(plan.new_tokens):
            columns = longest + step
            mask = holds[:, :columns]
            positions = mask.long().cumsum(1)[:, -ids.shape[1] :].sub(1).clamp(min=0)
            logits = target.model(
                ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                logits_to_keep=last,
            ).logits[:, -1]
            best = logits.topk(plan.top_k, -1)
            share = (best.values.float() / heat).softmax(-1)
            drawn = torch.multinomial(share, 1, generator=generator)
            ids = best.indices.gather(-1, drawn)
            kept = []
            for at, token in enumerate(ids[:, 0].tolist()):
                if texts[alive[at]][-1:] and (
                    len(texts[alive[at]]) > len(prompts[alive[at]]) and texts[alive[at]][-1] in stop
                ):
                    continue
                texts[alive[at]].append(token)
                if token not in stop:
                    kept.append(at)
            if not kept:
                break
            if len(kept) <= 0.8 * len(alive):
                rows = torch.tensor(kept, device=device)
                ids, holds, heat = ids[rows], holds[rows], heat[rows]
                cache.select(rows)
                alive = [alive[at] for at in kept]
    return texts


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer, in tensors with room for those to come."""

    room = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        held = self.keys.shape[-2] if self.is_initialized else 0
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = [*key_states.shape]
            shape[-2] = self.room
            self._keys, self._values = key_states.new_zeros(shape), value_states.new_zeros(shape)
        columns = held + key_states.shape[-2]
        self._keys[:, :, held:columns] = key_states
        self._values[:, :, held:columns] = value_states
        self.keys, self.values = self._keys[:, :, :columns], self._values[:, :, :columns]
        return self.keys, self.values

    def select(self, rows: torch.Tensor) -> None:
        """Keep some rows."""
        columns = self.keys.shape[-2]
        self._keys, self._values = self._keys[rows], self._values[rows]
        self.keys, self.values = self._keys[:, :, :columns], self._values[:, :, :columns]


class RoomyCache(DynamicCache):
    """A cache of full attention whose layers have room for `room` columns each."""

    def __init__(self, config: Any, room: int) -> None:
        super().__init__()
        layer = type("RoomyLayerOf", (RoomyLayer,), {"room": room})
        self.layers = [layer() for _ in range(config.get_text_config().num_hidden_layers)]

    def select(self, rows: torch.Tensor) -> None:
        """Keep some rows."""
        for layer in self.layers:
            layer.select(rows)


class grouped_attention:  # noqa: N801  (used as a context)
    """While it lasts, a model's single queries attend with the heads of a group as rows of one
    matrix, so keys and values are not copied for each of them.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        AttentionInterface.register(GROUPED, _grouped)
        AttentionMaskInterface.register(GROUPED, sdpa_mask)
        self._model = model

    def __enter__(self) -> None:
        self._before = self._model.config._attn_implementation
        self._model.set_attn_implementation(GROUPED)

    def __exit__(self, *error: object) -> None:
        self._model.set_attn_implementation(self._before)


def _grouped(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: (rows, heads, columns, size) in, (rows, columns, heads,
    size) out.
    """
    rows, heads, columns, size = query.shape
    if columns > 1:
        read, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return read, None
    attended = torch.nn.functional.scaled_dot_product_attention(
        query.view(rows, key.shape[1], -1, size),
        key,
        value,
        attn_mask=attention_mask,
        scale=options.get("scaling"),
    )
    return attended.view(rows, heads, 1, size).transpose(1, 2).contiguous(), None


def rows_of(texts: Sequence[Sequence[int]], length: int) -> Iterator[list[int]]:
    """The texts as rows of one length: longer ones are cut, shorter ones left out."""
    for text in texts:
        if len(text) >= length:
            yield list(text[:length])
