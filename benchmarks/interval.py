"""Time to a 95 % interval of +-1 % on the acceptance length: replay beside counting rounds, and what the
matrix products alone allow. Embedded text pair, k = 8, 128 new tokens; CPU seconds of one thread.

    OMP_NUM_THREADS=1 python benchmarks/interval.py [--runs 2] [--into docs/benchmarks.md]

Counting is timed twice: rounds of transformers' `generate`, and of this package's decoder, 16 texts at once.
The last rows are of a change, from the draft model to one with noise of 4.3 %: paired counting decodes with
both, same prompts and same seed, as the strongest way to count; paired replay passes the same texts through
both. "Products" does the matrix products of replay and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers.embedded import Pair, generate
from helpers.support import EMBEDDED
from marked_page import marks_of, write_lines
from products import products
from scipy import stats
from weight_changes import noise

from pytest_specdec import Counts
from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling, default_rule
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import sample_new_tokens
from pytest_specdec.decoding.scoring import ScoringPlan

MARK = "interval.py"
K, NEW, HALF_WIDTH, NOISE = 8, 128, 0.01, 0.043
GENERATED, REPEATS = 20, 3
"""Prompts after which transformers generates; its time for each hardly differs."""
ResultT = TypeVar("ResultT")


@dataclasses.dataclass(frozen=True)
class Way:
    """What one way takes: CPU seconds a prompt, and prompts for the interval."""

    name: str
    prompt: float
    prompts: float

    @property
    def seconds(self) -> float:
        return self.prompt * self.prompts


def timed(call: Callable[[], ResultT], repeats: int = 1) -> tuple[ResultT, float]:
    """The result, and CPU seconds of the fastest call."""
    seconds = []
    for _ in range(repeats):
        begun = time.process_time()
        result = call()
        seconds.append(time.process_time() - begun)
    return result, min(seconds)


def influence(counts: Counts) -> np.ndarray:
    """Each prompt's share in the relative acceptance length, (prompts,)."""
    length = counts.acceptance_length
    emitted = counts.accepted.sum(1) + counts.rounds
    shares: np.ndarray = (emitted - length * counts.rounds) / counts.rounds.mean() / length
    return shares


def needed(shares: np.ndarray) -> float:
    """Prompts for the interval, from the spread between prompts."""
    return float((stats.norm.ppf(0.975) * shares.std(ddof=1) / HALF_WIDTH) ** 2)


def ways(pair: Pair, worse: LoadedModel, temperature: float, seed: int) -> list[Way]:
    """Every way, in turn."""
    sampling, sampled = Sampling(temperature), temperature > 0
    stored = sample_new_tokens(
        pair.target, pair.prompts, new_tokens=NEW, sampling=sampling, seed=seed
    )
    texts = tuple(
        Text(str(row), "all", (*prompt, *tokens), len(prompt))
        for row, (prompt, tokens) in enumerate(zip(pair.prompts, stored, strict=True))
    )
    count = len(texts)

    def replayed(*drafts: LoadedModel) -> list[Counts]:
        plans = [DrafterPlan(draft, 0, K) for draft in drafts]
        scores = text_scores(pair.target, plans, texts, sampling)
        rule = default_rule(temperature)
        return [expected_counts(found.field(rule), K) for found in scores]

    def decoded(*drafts: LoadedModel) -> list[Counts]:
        options = {"k": K, "temperature": temperature, "new_tokens": NEW, "seed": seed}
        return [
            decode(pair.target, draft, pair.prompts, batch_size=16, **options).counts
            for draft in drafts
        ]

    def multiplied() -> None:
        """A sampled text passes through both models; of greedy ones the target checks some."""
        products(pair.draft, texts, plan)
        products(pair.target, texts, plan if sampled else greedy)

    def generated() -> None:
        for prompt in pair.prompts[:: count // GENERATED]:
            generate(pair.target, pair.draft, prompt, k=K, new=NEW, sample=sampled)

    vocabulary = pair.target.model.get_input_embeddings().num_embeddings
    plan = ScoringPlan.of(texts, device="cpu", vocabulary=vocabulary, greedy=not sampled)
    greedy = dataclasses.replace(plan, batches=plan.greedy)
    torch.manual_seed(seed)
    (replay,), replaying = timed(lambda: replayed(pair.draft), REPEATS)
    replays, replaying_both = timed(lambda: replayed(pair.draft, worse), REPEATS)
    _, least = timed(multiplied, REPEATS)
    (counted,), decoding = timed(lambda: decoded(pair.draft))
    counts, decoding_both = timed(lambda: decoded(pair.draft, worse))
    _, generating = timed(generated)
    alone = needed(influence(replay)), needed(influence(counted))
    change = [needed(influence(now) - influence(before)) for before, now in (replays, counts)]
    return [
        Way("rounds of transformers' generate", generating / GENERATED, alone[1]),
        Way("rounds of this package's decoder", decoding / count, alone[1]),
        Way("replay", replaying / count, alone[0]),
        Way("products", least / count, alone[0]),
        Way("change: paired counting", decoding_both / count, change[1]),
        Way("change: paired replay", replaying_both / count, change[0]),
    ]


def rows(temperature: float, runs: list[list[Way]]) -> list[str]:
    """Lines of the table: medians over runs, and how many times as long the first way takes, its least
    and its greatest over runs.
    """
    lines = []
    for at, way in enumerate(runs[0]):
        first = 4 if at >= 4 else 0
        faster = [run[first].seconds / run[at].seconds for run in runs]
        times = f"{min(faster):,.1f} to {max(faster):,.1f}" if at != first else ""
        prompt, prompts, seconds = (
            statistics.median(getattr(run[at], name) for run in runs)
            for name in ("prompt", "prompts", "seconds")
        )
        lines.append(
            f"| {temperature:g} | {way.name} | {prompt * 1e3:,.2f} | {prompts:,.0f} "
            f"| {seconds:,.1f} | {times} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    pair = Pair.load()
    worse = load_model(str(EMBEDDED / "text-draft"), "cpu")
    with torch.no_grad():
        noise(NOISE)(worse, 0)
    lines = [
        "| T | way | CPU ms a prompt | prompts | CPU s | times faster |",
        "|---|---|---|---|---|---|",
    ]
    for temperature in (0.0, 1.0):
        runs = [ways(pair, worse, temperature, seed) for seed in range(options.runs)]
        lines += rows(temperature, runs)
    print("\n".join(lines))
    if options.into:
        write_lines(options.into, marks_of(MARK), "\n".join(lines))


if __name__ == "__main__":
    main()
