"""A fixed drafter while its target is fine-tuned: the curve of its loss beside the truth.

    python benchmarks/changing_targets.py run --sequence json-1 > benchmarks/results/targets-json-1.jsonl
    python benchmarks/changing_targets.py page benchmarks/results/targets-*.jsonl

A sequence takes 20 steps of the embedded target on documents of one kind, Adam with a rate that
makes the drafter stale within them. Its texts are sampled from the target before the first step. The
loss at each step is measured on them (the same contexts); every fourth step also on fresh texts of
that step's target, on the same prompts, which is the truth that the curve stands for. `draws`
samples of 40 prompts then show what a user with so many would have seen: how often all intervals
of the curve together hold the truth, and when the margin is passed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).parent.parent / "tests"))
sys.path.append(str(Path(__file__).parent.parent / "suites" / "models"))

import corpus
from changed_target import prompts as beginnings
from helpers.embedded import Pair as ModelPair

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.decoding.loading import LoadedModel
from pytest_specdec.decoding.stale_drafter import StaleDrafter

STEPS, K, NEW_TOKENS = 20, 4, 64
FRESH = (4, 8, 12, 16, 20)
SAMPLE, MARGIN, ALPHA = 40, 0.02, 0.01
SEQUENCES: dict[str, tuple[str, int, float]] = {
    "json": ("json", 1, 5e-4),
    "dialogue": ("dialogue", 1, 5e-4),
    "code": ("code", 1, 1e-3),
    "code, fast": ("code", 2, 3e-3),
}
"""Name: kind of documents, seed, rate of Adam."""


class FineTuning:
    """The target in training; `step` changes its weights in place."""

    def __init__(self, model: LoadedModel, kind: str, seed: int, rate: float) -> None:
        self._model, self._rng = model, random.Random(seed)
        self._documents = documents(kind, seed)
        weights = list(model.model.parameters())
        for weight in weights:
            weight.requires_grad_(True)
        with torch.inference_mode(False):
            self._optimizer = torch.optim.Adam(weights, lr=rate)

    def step(self) -> None:
        texts = [self._rng.choice(self._documents)[:300] for _ in range(8)]
        with torch.enable_grad(), torch.inference_mode(False):
            loss = torch.stack(
                [
                    self._model.model(ids, labels=ids).loss
                    for ids in (
                        torch.tensor([self._model.tokenizer(text)["input_ids"][:80]])
                        for text in texts
                    )
                ]
            ).mean()
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()


def documents(kind: str, seed: int) -> list[str]:
    """Documents of one kind of the corpus generator."""
    rng = random.Random(seed + 100)
    if kind == "code":
        return [text for text in corpus._code(rng) if len(text) > 100]
    make = {"json": corpus.json_document, "dialogue": corpus.dialogue_document}[kind]
    return [make(rng) for _ in range(400)]


def named(counts: Counts) -> dict[str, Any]:
    """What is kept of counts: a round from every start."""
    return {
        "rounds": counts.rounds.tolist(),
        "accepted": np.round(counts.accepted.sum(1), 6).tolist(),
    }


def run(sequence: str, count: int) -> None:
    kind, seed, rate = SEQUENCES[sequence]
    pair = ModelPair.load()
    texts = [pair.target.tokenizer.decode(ids) for ids in beginnings(count, pair)]
    prompts = [
        Prompt(key=str(row), category="all", text=text)
        for row, text in enumerate(dict.fromkeys(texts))
    ]
    options: dict[str, Any] = {"k": K, "new_tokens": NEW_TOKENS}
    fixed = StaleDrafter(pair.draft, prompts, **options)
    training = FineTuning(pair.target, kind, seed, rate)
    for step in range(STEPS + 1):
        began = time.perf_counter()
        if step:
            training.step()
        row = fixed.measure(str(step), pair.target)
        entry = {"sequence": sequence, "step": step, "contexts": row.contexts}
        entry |= {"effective": row.effective_share, **named(row.counts)}
        if step in FRESH:
            fresh = StaleDrafter(pair.draft, prompts, **options, seed=1).measure("", pair.target)
            entry["fresh"] = named(fresh.counts)
        if step == 0:
            other = StaleDrafter(pair.draft, prompts, **options, seed=1).measure("", pair.target)
            entry["fresh"] = named(other.counts)
        entry["seconds"] = round(time.perf_counter() - began, 1)
        print(json.dumps(entry), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("--sequence", choices=SEQUENCES, required=True)
    running.add_argument("--prompts", type=int, default=400)
    given = parser.parse_args()
    run(given.sequence, given.prompts)


if __name__ == "__main__":
    main()
