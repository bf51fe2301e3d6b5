"""What replay takes over the matrix products that it cannot do without, in turns in one process: CPU
seconds of one thread, the best of several.

    OMP_NUM_THREADS=1 python benchmarks/products.py [--into docs/scale.md]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from marked_page import marks_of, write_lines
from transformers import LlamaConfig, LlamaForCausalLM

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text, texts_from_ids
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.scoring import ScoringPlan

MARK = "products.py"
PROMPT, WIDTH, LAYERS, HEADS, KEYS = 16, 512, 4, 8, 4
SHAPES = ((1024, 128), (1024, 1024), (32768, 128), (32768, 1024), (131072, 256))
"""Vocabulary and length of the texts."""
TURNS = 3


def model(vocabulary: int, seed: int) -> LoadedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEYS,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        return load_model(folder, "cpu")


def products(loaded: LoadedModel, texts: tuple[Text, ...], plan: ScoringPlan) -> None:
    """The products of one pass over the batches, and nothing else."""
    linear = [
        module.weight
        for name, module in loaded.model.named_modules()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    ]
    config = loaded.model.config
    width, heads = config.hidden_size, config.num_attention_heads
    dtype = loaded.model.dtype
    inputs = {
        size: torch.randn(1, size, dtype=dtype) for size in {weight.shape[1] for weight in linear}
    }
    for rows in plan.batches:
        length = max(len(texts[row].ids) for row in rows)
        tokens = len(rows) * length
        for weight in linear:
            torch.nn.functional.linear(inputs[weight.shape[1]].expand(tokens, -1), weight)
        keys = torch.zeros(len(rows) * heads, length, width // heads, dtype=dtype)
        for _ in range(config.num_hidden_layers):  # causal: half of each product
            half = keys[:, : length // 2]
            torch.bmm(torch.bmm(half, keys.transpose(1, 2)), keys)
        states = torch.randn(
            sum(len(texts[row].ids) - texts[row].prompt_length for row in rows), width, dtype=dtype
        )
        torch.nn.functional.linear(states, loaded.model.lm_head.weight)


def seconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


@dataclasses.dataclass(frozen=True)
class Found:
    """Seconds of replay and of its products."""

    replay: float
    products: float


@torch.inference_mode()
def measured(vocabulary: int, length: int) -> Found:
    pair = [model(vocabulary, seed) for seed in (0, 1)]
    count = max(1, 2048 // length)
    ids = np.random.default_rng(0).integers(0, vocabulary, (count, length)).tolist()
    texts = texts_from_ids(ids, [PROMPT] * count)
    plan = ScoringPlan.of(texts, device="cpu", vocabulary=vocabulary, greedy=False)
    drafter = [DrafterPlan(pair[1], 0, 8)]
    turns = [
        (
            seconds(lambda: text_scores(pair[0], drafter, texts, Sampling(1.0))),
            seconds(lambda: [products(loaded, texts, plan) for loaded in pair]),
        )
        for _ in range(TURNS)
    ]
    return Found(*map(min, zip(*turns, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    lines = [
        "| vocabulary | tokens per text | products, s | replay, s | ratio |",
        "|---|---|---|---|---|",
    ]
    for vocabulary, length in SHAPES:
        found = measured(vocabulary, length)
        lines.append(
            f"| {vocabulary:,} | {length:,} | {found.products:.2f} | {found.replay:.2f} | "
            f"{found.replay / found.products:.2f} |"
        )
        print(lines[-1], flush=True)
    if options.into:
        write_lines(options.into, marks_of(MARK), "\n".join(lines))


if __name__ == "__main__":
    main()
