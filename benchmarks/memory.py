"""Run by test_memory.py in a process of its own: prints replay's peak memory above the loaded pair
in GiB, and seconds.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import texts_from_ids
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

VOCABULARY, LENGTH, PROMPT = 50_000, 512, 64


def model(
    folder: Path,
    seed: int,
    *,
    vocabulary: int = VOCABULARY,
    width: int = 16,
    heads: int = 2,
    length: int = LENGTH,
) -> str:
    """A random Llama of one layer, narrow where it is the logits that are measured, which depend on
    the vocabulary alone.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=length,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextlib.contextmanager
def watched() -> Iterator[list[int]]:
    """The largest number of bytes, from now on, above those of now."""
    before, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    pair = [
        load_model(model(folder / name, seed), "cpu")
        for seed, name in enumerate(("target", "draft"))
    ]
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (count, LENGTH)).tolist()
    texts = texts_from_ids(ids, [PROMPT] * count)
    begun = time.perf_counter()
    with watched() as peak:
        (scores,) = text_scores(pair[0], [DrafterPlan(pair[1], 0, 16)], texts, Sampling(1.0))
        expected_counts(scores.field("rejection"), 16)
    print(peak[0] / 2**30, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
