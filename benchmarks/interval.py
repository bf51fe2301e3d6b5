"""Time to a 95 % interval of +-1 % on the acceptance length: replay beside counting rounds, and what the
matrix products alone allow. CPU seconds of one thread; embedded text pair, k = 8, 128 new tokens, unless
others are named.

    OMP_NUM_THREADS=1 python benchmarks/interval.py [--runs 2] [--into docs/benchmarks.md]
    OMP_NUM_THREADS=1 python benchmarks/interval.py --target TARGET --drafter DRAFT --prompts FILE --k 4

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

from helpers.embedded import PROMPTS, UNUSED, Pair, generate
from helpers.support import EMBEDDED
from marked_page import marks_of, write_lines
from products import products
from scipy import stats
from weight_changes import noise

from pytest_specdec import Counts
from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling, default_rule
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens
from pytest_specdec.decoding.scoring import ScoringPlan

MARK = "interval.py"
HALF_WIDTH, NOISE = 0.01, 0.043
SINGLE, COUNTED_CHANGE = "the same, one text at a time", "change: paired counting"
ResultT = TypeVar("ResultT")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is decoded, and how often it is timed."""

    k: int = 8
    new: int = 128
    generated: int = 20
    """Prompts after which transformers generates; its time for each hardly differs."""
    single: bool = False
    """Whether this package's decoder is timed one text at a time, too, after these prompts."""
    repeats: int = 3
    unused: int = UNUSED
    """A token that is in no text."""


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


def ways(pair: Pair, worse: LoadedModel, sizes: Plan, temperature: float, seed: int) -> list[Way]:
    """Every way, in turn."""
    sampling, sampled = Sampling(temperature), temperature > 0
    stored = sample_new_tokens(
        pair.target, pair.prompts, new_tokens=sizes.new, sampling=sampling, seed=seed
    )
    texts = tuple(
        Text(str(row), "all", (*prompt, *tokens), len(prompt))
        for row, (prompt, tokens) in enumerate(zip(pair.prompts, stored, strict=True))
    )
    count = len(texts)

    def replayed(*drafts: LoadedModel) -> list[Counts]:
        plans = [DrafterPlan(draft, 0, sizes.k) for draft in drafts]
        scores = text_scores(pair.target, plans, texts, sampling)
        rule = default_rule(temperature)
        return [expected_counts(found.field(rule), sizes.k) for found in scores]

    options = {"k": sizes.k, "temperature": temperature, "new_tokens": sizes.new, "seed": seed}

    def decoded(*drafts: LoadedModel) -> list[Counts]:
        return [
            decode(pair.target, draft, pair.prompts, batch_size=16, **options).counts
            for draft in drafts
        ]

    few = pair.prompts[:: count // sizes.generated][: sizes.generated]

    def one_by_one() -> None:
        decode(pair.target, pair.draft, few, batch_size=1, **options)

    def multiplied() -> None:
        """A sampled text passes through both models; of greedy ones the target checks some."""
        products(pair.draft, texts, plan)
        products(pair.target, texts, plan if sampled else greedy)

    def generated() -> None:
        for prompt in few:
            generate(
                pair.target,
                pair.draft,
                prompt,
                k=sizes.k,
                new=sizes.new,
                sample=sampled,
                unused=sizes.unused,
            )

    vocabulary = pair.target.model.get_input_embeddings().num_embeddings
    plan = ScoringPlan.of(texts, device="cpu", vocabulary=vocabulary, greedy=not sampled)
    greedy = dataclasses.replace(plan, batches=plan.greedy)
    torch.manual_seed(seed)
    (replay,), replaying = timed(lambda: replayed(pair.draft), sizes.repeats)
    replays, replaying_both = timed(lambda: replayed(pair.draft, worse), sizes.repeats)
    _, least = timed(multiplied, sizes.repeats)
    (counted,), decoding = timed(lambda: decoded(pair.draft))
    counts, decoding_both = timed(lambda: decoded(pair.draft, worse))
    _, generating = timed(generated)
    single = timed(one_by_one)[1] if sizes.single else None
    alone = needed(influence(replay)), needed(influence(counted))
    change = [needed(influence(now) - influence(before)) for before, now in (replays, counts)]
    return [
        Way("rounds of transformers' generate", generating / len(few), alone[1]),
        Way("rounds of this package's decoder", decoding / count, alone[1]),
        *([] if single is None else [Way(SINGLE, single / len(few), alone[1])]),
        Way("replay", replaying / count, alone[0]),
        Way("products", least / count, alone[0]),
        Way(COUNTED_CHANGE, decoding_both / count, change[1]),
        Way("change: paired replay", replaying_both / count, change[0]),
    ]


def rows(temperature: float, runs: list[list[Way]]) -> list[str]:
    """Lines of the table: medians over runs, and how many times as long the first way takes, its least
    and its greatest over runs.
    """
    lines = []
    change = [way.name for way in runs[0]].index(COUNTED_CHANGE)
    for at, way in enumerate(runs[0]):
        first = change if at >= change else 0
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


def given() -> argparse.Namespace:
    sizes = Plan()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--target", default=str(EMBEDDED / "text-target"))
    parser.add_argument("--drafter", default=str(EMBEDDED / "text-draft"), help="a draft model")
    parser.add_argument("--prompts", type=Path, default=PROMPTS)
    parser.add_argument("--count", type=int, help="prompts, the first ones; all unless given")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--k", type=int, default=sizes.k)
    parser.add_argument("--new", type=int, default=sizes.new, help="new tokens")
    parser.add_argument("--generated", type=int, default=sizes.generated)
    parser.add_argument("--single", action="store_true", help="time our decoder at batch 1, too")
    parser.add_argument("--repeats", type=int, default=sizes.repeats)
    parser.add_argument("--unused", type=int, default=sizes.unused, help="a token in no text")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--into", type=Path)
    return parser.parse_args()


def main() -> None:
    options = given()
    fields = (field.name for field in dataclasses.fields(Plan))
    sizes = Plan(**{name: getattr(options, name) for name in fields})
    target, draft, worse = (
        load_model(path, "cpu", options.dtype)
        for path in (options.target, options.drafter, options.drafter)
    )
    prompts = encode_prompts(target.tokenizer, read_prompts(options.prompts, options.count))
    pair = Pair(target, draft, prompts)
    with torch.no_grad():
        noise(NOISE)(worse, 0)
    lines = [
        "| T | way | CPU ms a prompt | prompts | CPU s | times faster |",
        "|---|---|---|---|---|---|",
    ]
    for temperature in (0.0, 1.0):
        runs = [ways(pair, worse, sizes, temperature, seed) for seed in range(options.runs)]
        lines += rows(temperature, runs)
    print("\n".join(lines))
    if options.into:
        write_lines(options.into, marks_of(MARK), "\n".join(lines))


if __name__ == "__main__":
    main()
