"""What replay costs: the whole grid beside one cell, growth with prompts and k, and time to a
narrow interval.

make bench
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.eagle3 import write_head
from helpers.embedded import PROMPTS, Pair, generate
from helpers.support import EMBEDDED, ROOT
from scipy import stats

from pytest_specdec import Counts
from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.acceptance.rounds import Round, counts_of_rounds
from pytest_specdec.baselines.store import BaselineStore
from pytest_specdec.cases.case import Case, Sampling, TextKey, default_rule
from pytest_specdec.cases.drafter import DrafterSpec, DraftModelSpec, parse_drafter
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import sample_new_tokens
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine

GRID, ALL_K = 1.3, 1.5
DRAFT = DraftModelSpec(str(EMBEDDED / "text-draft"))
FASTER, TURNS = {0.0: 100, 1.0: 75}, 16
TEXTS = TextKey("text", str(EMBEDDED / "text-target"), PROMPTS, None, 128, 1.0, 0)


def fastest(call: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of some calls: the rest is the machine."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def measure(
    ks: tuple[int, ...],
    depths: tuple[int, ...],
    drafter: DrafterSpec = DRAFT,
) -> float:
    """Seconds to replay some cells, models loaded and texts stored."""
    plan = [
        Case(
            texts=TEXTS,
            drafter=drafter,
            label="drafter",
            k=k,
            depth=depth,
            rule="rejection",
            margin=0.005,
        )
        for k in ks
        for depth in depths
    ]
    stored = BaselineStore(ROOT / "baselines").texts
    engine = ReplayEngine(plan, ModelPool("cpu"), stored_texts=stored)
    for case in plan:
        engine.models.load_drafter(case)
    begun = time.perf_counter()
    for case in plan:
        engine.measure(case)
    return time.perf_counter() - begun


def test_the_whole_grid_costs_little_more_than_one_cell(
    benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds: dict[str, list[float]] = {"deepest cell": [], "plain cell": [], "grid": []}

    def turn() -> None:
        seconds["deepest cell"].append(measure((16,), (3,)))
        seconds["plain cell"].append(measure((16,), (0,)))
        seconds["grid"].append(measure((4, 8, 12, 16), (0, 1, 2, 3)))

    benchmark.pedantic(turn, rounds=7, warmup_rounds=1)
    deepest, plain, grid = (min(own) for own in seconds.values())
    benchmark.extra_info.update(
        over_deepest=round(grid / deepest, 2), over_plain=round(grid / plain, 2)
    )
    with capsys.disabled():
        print(
            f"\n4 k x 4 depths cost {grid / deepest:.2f} times the cell k=16, depth=3 "
            f"and {grid / plain:.2f} times k=16, depth=0, which runs no MTP heads"
        )
    assert grid <= GRID * deepest


@pytest.mark.parametrize("kind", ["mtp", "eagle3"])
def test_every_k_costs_little_more_than_the_largest(
    benchmark, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    """Of heads that run on themselves: one pass for k = 16 has the steps of every smaller k."""
    if kind == "mtp":
        drafter, depth = parse_drafter(kind), 1
    else:
        head = write_head(tmp_path / "head", EMBEDDED / "text-target", ids=(1, 2, 3), drafted=400)
        drafter, depth = parse_drafter(f"eagle3:{head}"), 0
    seconds: dict[str, list[float]] = {"all": [], "largest": []}

    def turn() -> None:
        seconds["largest"].append(measure((16,), (depth,), drafter))
        seconds["all"].append(measure(tuple(range(1, 17)), (depth,), drafter))

    benchmark.pedantic(turn, rounds=5, warmup_rounds=1)
    ratio = min(seconds["all"]) / min(seconds["largest"])
    benchmark.extra_info.update(over_largest=round(ratio, 2))
    with capsys.disabled():
        print(f"\n{kind}: k = 1 to 16 cost {ratio:.2f} times k = 16 alone")
    assert ratio <= ALL_K


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_time_to_an_interval_of_one_percent(
    pair: Pair, benchmark, capsys: pytest.CaptureFixture[str], temperature: float
) -> None:
    """Seconds until the 95 % interval of the acceptance length is +-1 % wide, prompts as the unit:
    k = 8.

    transformers' `generate` emits the suite's texts and its rounds are counted; replay is given the
    same texts. Both are timed in turn, replay on stored texts as long.
    """
    k, new, prompts, sampling = 8, 128, pair.prompts, Sampling(temperature)
    rule, sample = default_rule(temperature), temperature > 0
    stored = sample_new_tokens(pair.target, prompts, new_tokens=new, sampling=sampling, seed=1)
    as_long = [
        Text(str(row), "all", (*own, *more), len(own))
        for row, (own, more) in enumerate(zip(prompts, stored, strict=True))
    ]

    def replayed(texts: Sequence[Text]) -> Counts:
        (scores,) = text_scores(pair.target, [DrafterPlan(pair.draft, 0, k)], texts, sampling)
        return expected_counts(scores.field(rule), k)

    def in_turn() -> tuple[list[tuple[Text, list[Round]]], list[float], list[float]]:
        """All texts with their rounds, and seconds a prompt of counting some and of replaying all,
        turn by turn.
        """
        done, counting, replaying = [], [], []
        for turn in range(TURNS):
            marks = [time.perf_counter()]
            own = prompts[turn::TURNS]
            done += [
                generate(pair.target, pair.draft, prompt, k=k, new=new, sample=sample)
                for prompt in own
            ]
            marks.append(time.perf_counter())
            replayed(as_long)
            marks.append(time.perf_counter())
            counting.append((marks[1] - marks[0]) / len(own))
            replaying.append((marks[2] - marks[1]) / len(as_long))
        return done, counting, replaying

    torch.manual_seed(1)
    replayed(as_long)
    done, counted_s, replayed_s = benchmark.pedantic(in_turn, rounds=1, warmup_rounds=0)
    texts = [dataclasses.replace(text, key=str(row)) for row, (text, _) in enumerate(done)]
    needed = {
        "replay": prompts_needed(replayed(texts)),
        "counting": prompts_needed(counts_of_rounds(texts, [rounds for _, rounds in done], k)),
    }
    replay_seconds, counting_seconds = statistics.median(replayed_s), statistics.median(counted_s)
    replay, counting = needed["replay"] * replay_seconds, needed["counting"] * counting_seconds
    benchmark.extra_info.update(
        replay_s=round(replay, 2), counting_s=round(counting, 1), faster=round(counting / replay)
    )
    with capsys.disabled():
        print(
            f"\n+-1 % on the acceptance length, T={temperature:g}: replay {needed['replay']:.0f} "
            "prompts of "
            f"{replay_seconds * 1e3:.2f} ms; counting rounds of transformers' generate "
            f"{needed['counting']:.0f} prompts of "
            f"{counting_seconds * 1e3:.0f} ms: {counting / replay:.0f} times faster"
        )
    assert counting >= FASTER[temperature] * replay


def prompts_needed(counts: Counts, half_width: float = 0.01) -> float:
    """Prompts for a 95 % interval of so many percent, from the spread of each prompt's share in the
    ratio.
    """
    length = counts.acceptance_length
    influence = (
        counts.accepted.sum(1) + counts.rounds - length * counts.rounds
    ) / counts.rounds.mean()
    return float((stats.norm.ppf(0.975) * influence.std(ddof=1) / length / half_width) ** 2)


def test_time_grows_with_prompts_in_a_line_and_not_with_k(
    pair: Pair, benchmark, capsys: pytest.CaptureFixture[str]
) -> None:
    new_tokens = sample_new_tokens(
        pair.target, pair.prompts, new_tokens=64, sampling=Sampling(1.0), seed=2
    )
    base = [
        Text(f"{copy}-{row}", "all", (*prompt, *tokens), len(prompt))
        for copy in range(8)
        for row, (prompt, tokens) in enumerate(zip(pair.prompts, new_tokens, strict=True))
    ]

    def seconds(prompts: int, k: int) -> float:
        def call() -> None:
            (scores,) = text_scores(
                pair.target, [DrafterPlan(pair.draft, 0, k)], base[:prompts], Sampling(1.0)
            )
            expected_counts(scores.field("rejection"), k)

        return fastest(call, 3)

    sizes = [80, 160, 320, 480, 640]
    by_size = benchmark.pedantic(lambda: [seconds(size, 8) for size in sizes], rounds=1)
    by_k = {k: seconds(320, k) for k in (2, 4, 8, 16)}
    exponent = float(np.polyfit(np.log(sizes), np.log(by_size), 1)[0])
    linear = stats.linregress(sizes, by_size)
    growth = max(by_k.values()) / min(by_k.values())
    benchmark.extra_info.update(
        exponent=round(exponent, 2), r_squared=round(linear.rvalue**2, 4), k_growth=round(growth, 2)
    )
    with capsys.disabled():
        print(
            f"\nreplay takes {linear.slope * 1e3:.2f} ms a prompt (R^2 {linear.rvalue**2:.4f}, "
            f"exponent {exponent:.2f}); "
            f"k=2..16: {', '.join(f'{own * 1e3:.0f}' for own in by_k.values())} ms"
        )
    assert 0.8 < exponent < 1.2
    assert linear.rvalue**2 > 0.98
    assert growth < 1.25
