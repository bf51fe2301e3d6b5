"""Decode beside transformers' assisted generation on the embedded pair: tokens per second, as a
ratio in one run.

    make bench

Prompts are decoded in turn by both, so that a slow moment of the machine meets both; texts of 96
new tokens. What a text takes in rounds is luck at temperature 1, the same luck for both (its
distribution is replay's): there one row's speed is compared by the target's pass, not by the token.
"""

from __future__ import annotations

import itertools
import time

import pytest
import torch
from helpers.embedded import Pair, generate, rounds_of_generate

from pytest_specdec import decode

NEW = 96
PROMPTS = 16
SINGLE, BATCHED = 1.2, 4.0
"""What is promised: decode over transformers, at batch size 1 (a tenth below the goal, for noise)
and at 16.
"""


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("k", [4, 8])
def test_tokens_per_second(
    pair: Pair, benchmark, capsys: pytest.CaptureFixture[str], k: int, temperature: float
) -> None:
    prompts = pair.prompts[:: len(pair.prompts) // PROMPTS][:PROMPTS]
    seconds = dict.fromkeys(("transformers", "single", "batched"), 0.0)
    passes = {"transformers": 0, "single": 0}

    def timed(name: str, call, *arguments, **keywords):
        begun = time.perf_counter()
        done = call(*arguments, **keywords)
        seconds[name] += time.perf_counter() - begun
        return done

    seeds = itertools.count()

    def turn() -> None:
        seed = next(seeds)  # other texts every turn: at temperature 1 their acceptance is luck
        options = {"k": k, "temperature": temperature, "new_tokens": NEW, "seed": seed}
        torch.manual_seed(seed)
        for prompt in prompts:
            with rounds_of_generate() as rounds:
                timed(
                    "transformers",
                    generate,
                    pair.target,
                    pair.draft,
                    prompt,
                    k=k,
                    new=NEW,
                    sample=temperature > 0,
                )
            passes["transformers"] += len(rounds)
            own = timed(
                "single", decode, pair.target, pair.draft, [prompt], batch_size=1, **options
            )
            passes["single"] += 1 + len(own.rounds[0])
        timed("batched", decode, pair.target, pair.draft, prompts, batch_size=PROMPTS, **options)

    benchmark.pedantic(turn, rounds=4, warmup_rounds=0)
    single, batched = (seconds["transformers"] / seconds[name] for name in ("single", "batched"))
    if temperature:
        single *= passes["single"] / passes["transformers"]
    benchmark.extra_info.update(batch_1=round(single, 2), batch_16=round(batched, 2))
    with capsys.disabled():
        print(
            f"\ndecode over transformers, k={k}, T={temperature:g}: {single:.2f}x at batch 1, "
            f"{batched:.2f}x at batch 16"
        )
    assert single >= SINGLE
    assert batched >= BATCHED
