"""How the cost of replay grows, measured on random models in CPU seconds of one thread, and a model
of what a run costs on GPUs.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [--into docs/scale.md]
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

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text, texts_from_ids
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores

MARK = "growth.py"
PROMPT = 32
POINTS = (1, 2, 4)
"""Multiples at which each axis is measured."""


@dataclasses.dataclass(frozen=True)
class Size:
    """A run of replay: two random Llamas of one shape, and texts."""

    prompts: int = 24
    tokens: int = 160
    k: int = 8
    vocabulary: int = 2048
    layers: int = 4
    width: int = 128


AXES: dict[str, Callable[[int], Size]] = {
    "prompts": lambda times: Size(prompts=24 * times),
    "tokens per text": lambda times: Size(tokens=160 * times),
    "k": lambda times: Size(k=8 * times),
    "vocabulary": lambda times: Size(vocabulary=4096 * times),
    "layers": lambda times: Size(layers=4 * times),
    "width": lambda times: Size(width=128 * times),
}


def model(size: Size, seed: int) -> LoadedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=3 * size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        LlamaForCausalLM(config).save_pretrained(folder)
        return load_model(folder, "cpu")


def texts(size: Size) -> tuple[Text, ...]:
    ids = np.random.default_rng(0).integers(0, size.vocabulary, (size.prompts, size.tokens))
    return texts_from_ids(ids.tolist(), [PROMPT] * size.prompts)


def seconds(size: Size) -> tuple[float, float]:
    """CPU seconds of the passes and of the walk over positions, the better of two."""
    target, draft, read = model(size, 0), model(size, 1), texts(size)
    best = [np.inf, np.inf]
    for _ in range(2):
        begun = time.process_time()
        (scores,) = text_scores(target, [DrafterPlan(draft, 0, size.k)], read, Sampling(1.0))
        scored = time.process_time()
        expected_counts(scores.field("rejection"), size.k)
        ended = time.process_time()
        best = [min(best[0], scored - begun), min(best[1], ended - scored)]
    return best[0], best[1]


def exponent(values: list[float]) -> float:
    """The slope of log-seconds over log-size."""
    return float(np.polyfit(np.log(POINTS), np.log(values), 1)[0])


def measured() -> list[str]:
    seconds(Size())  # warm
    lines = [
        "| axis | at | passes, CPU seconds | exponent | walk, CPU seconds | exponent |",
        "|---|---|---|---|---|---|",
    ]
    for axis, size_at in AXES.items():
        found = [seconds(size_at(times)) for times in POINTS]
        field = axis.split()[0]
        at = ", ".join(str(getattr(size_at(times), field)) for times in POINTS)
        cells = []
        for column in zip(*found, strict=True):
            cells.append(", ".join(f"{value:.3f}" for value in column))
            cells.append(f"{exponent(list(column)):.2f}")
        lines.append(f"| {axis} | {at} | {' | '.join(cells)} |")
    return lines


@dataclasses.dataclass(frozen=True)
class Target:
    """A target as the cost model sees it."""

    name: str
    weights: float
    """Parameters."""
    active: float
    """Of them used for each token."""
    gigabytes: float
    """Its files."""
    gpus: int
    """Least number of 80 GB GPUs that hold it."""


TARGETS = (
    Target("8B", 8e9, 8e9, 16, 1),
    Target("70B", 70e9, 70e9, 140, 2),
    Target("671B, 37B active", 671e9, 37e9, 690, 16),
)
FLOPS, SHARE, READ, BANDWIDTH, BATCH = 989e12, 0.4, 2.0, 3.35e12, 64
PROMPTS, LENGTH, NEW = 1000, 768, 256


def modelled() -> list[str]:
    """GPU-hours of replaying and sampling, and what takes longest. A model, not a measurement."""
    lines = [
        "| target | GPUs | load, GPU-h | replay, GPU-h | sample new texts, GPU-h | one run takes | bottleneck |",
        "|---|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        load = target.gigabytes / READ
        replay = PROMPTS * LENGTH * 2 * target.active * 1.1 / (FLOPS * SHARE) / target.gpus
        # A batch of tokens reads the weights that it uses: all of them, for a batch this large.
        sample = PROMPTS / BATCH * NEW * (target.gigabytes * 1e9 / BANDWIDTH / target.gpus) / 0.5
        parts = {"reading the checkpoint": load, "the target's products": replay}
        lines.append(
            f"| {target.name} | {target.gpus} | "
            + " | ".join(f"{part * target.gpus / 3600:.3f}" for part in (load, replay, sample))
            + f" | {load + replay:.0f} s, new texts {sample:.0f} s more | {max(parts, key=parts.__getitem__)} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    made = "\n".join([*measured(), "", *_assumptions(), "", *modelled()])
    print(made)
    if options.into:
        write_lines(options.into, marks_of(MARK), made)


def _assumptions() -> list[str]:
    return [
        f"A model of a run, and no measurement: {PROMPTS:,} prompts of {LENGTH - NEW} tokens and",
        f"{NEW} new ones, bfloat16 (671B in 8 bits), GPUs of {FLOPS / 1e12:.0f} TFLOP/s of which",
        f"{SHARE:.0%} is reached, checkpoints read at {READ:g} GB/s, a drafter of a tenth of the target's",
        f"work; new texts are sampled {BATCH} at a time at half of {BANDWIDTH / 1e12:g} TB/s of memory.",
    ]


if __name__ == "__main__":
    main()
