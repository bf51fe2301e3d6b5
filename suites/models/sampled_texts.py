"""Texts that a target writes, by the hundred thousand tokens, to train heads on.

    sample_texts(target, prompts, Path("work/texts"), SamplingPlan(new_tokens=128))

Texts are kept in parts as they are done, and a run that was stopped goes on after the last of them.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from training_parts import write_whole

from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.ragged import new_cache, select_rows
from pytest_specdec.decoding.sampling import eos_ids


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
            begun_with = [len(prompts[row]) for row in rows]
            _write(path, new, begun_with)
            written += sum(map(len, new)) - sum(begun_with)
        for row, text in zip(rows, read_part(path)[0], strict=True):
            texts[row] = text
            tokens += len(text)
        rate = written / (time.monotonic() - begun)
        show(f"part {done} of {len(parts)}, {tokens} tokens, {rate:.0f} new a second")
    return texts


def read_part(path: Path) -> tuple[list[list[int]], list[int]]:
    """The texts of one part, and how many tokens of each are its prompt."""
    part = load_file(path)
    lengths: list[int] = part["lengths"].tolist()
    ids = iter(part["ids"].tolist())
    return [[*itertools.islice(ids, length)] for length in lengths], part["prompts"].tolist()


def read_answers(folder: Path) -> list[list[int]]:
    """What the target wrote after the prompts, part by part."""
    return [
        text[begin:]
        for path in sorted(folder.glob("part-*.safetensors"))
        for text, begin in zip(*read_part(path), strict=True)
    ]


def _write(path: Path, texts: Sequence[Sequence[int]], prompts: Sequence[int]) -> None:
    tensors = {
        "ids": torch.tensor([token for text in texts for token in text], dtype=torch.int32),
        "lengths": torch.tensor([len(text) for text in texts], dtype=torch.int32),
        "prompts": torch.tensor(prompts, dtype=torch.int32),
    }
    write_whole(tensors, path)


@torch.inference_mode()
def _sampled(
    target: LoadedModel,
    prompts: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    plan: SamplingPlan,
    generator: torch.Generator,
) -> list[list[int]]:
    """Prompts and what follows, up to `new_tokens` tokens or an end-of-sequence token each."""
    texts, alive = [list(prompt) for prompt in prompts], np.arange(len(prompts))
    ids, holds = _padded(prompts, plan.new_tokens, target.device)
    heat = torch.tensor(temperatures, device=target.device).clamp(min=1e-4)[:, None]
    last = torch.tensor([-1], device=target.device)  # by index: a slice would be strided, and slow
    cache, stop = new_cache(target.model.config), set(eos_ids(target))
    for columns in range(ids.shape[1], holds.shape[1]):
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
        ids = best.indices.gather(-1, torch.multinomial(share, 1, generator=generator))
        going_on = []
        for at, token in enumerate(ids[:, 0].tolist()):
            row = alive[at]
            new = len(texts[row]) > len(prompts[row])
            if not (new and texts[row][-1] in stop):
                texts[row].append(token)
                going_on += [at] if token not in stop else []
        if not going_on:
            break
        if len(going_on) <= 0.8 * len(alive):
            kept = np.array(going_on)
            rows = torch.from_numpy(kept).to(target.device)
            ids, holds, heat, alive = ids[rows], holds[rows], heat[rows], alive[kept]
            select_rows(cache, kept)
    return texts


def _padded(
    prompts: Sequence[Sequence[int]], room: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts (rows, longest) with padding on their left, and which columns hold tokens, (rows,
    longest + room).
    """
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    holds = torch.ones(len(prompts), longest + room, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        holds[row, : longest - len(prompt)] = False
    return ids.to(device), holds.to(device)
