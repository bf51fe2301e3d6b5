"""How often a right engine is called wrong by each check of its output.

    python benchmarks/output_level.py --into docs/check-engine.md

The checks of letters run on right servers with whatever right servers do differently
(`right_server.py`); the statistical ones on runs that are drawn from what they assume. Exits with 1
where one alarms more often than alpha allows beyond chance.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from conformance import row, table
from level_models import (
    cache_outcome,
    counts_refused,
    impossible_p,
    masked_divergences,
    penalised_evidence,
)
from marked_page import marks_of, write_lines
from right_server import LIMIT, RightServer
from scipy import stats

from pytest_specdec.acceptance.renewal import accepted_distribution
from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.engines.counting import time_course as course
from pytest_specdec.engines.counting.deviations import _STEPS, _conditional, _deviation, combined
from pytest_specdec.engines.counting.time_course import PlayedRounds
from pytest_specdec.output.batches import check_served_batches
from pytest_specdec.output.choices import check_choices
from pytest_specdec.output.constraints import check_constraints, constrained_texts
from pytest_specdec.output.reference import check_reference
from pytest_specdec.output.results import CheckOutcome, OutputResult
from pytest_specdec.output.served_endings import check_served_endings
from pytest_specdec.output.soak import SoakRequest, drift, greedy_split
from pytest_specdec.output.stop_tokens import check_stop_tokens
from pytest_specdec.output.streams import check_streams
from pytest_specdec.output.tool_calls import check_tool_calls

MARKED = marks_of("output_level.py")
RUNS, ALPHA, JOBS = 2000, 0.01, 2
PROMPTS = tuple(Prompt(f"p{row}", "all", f"prompt {row}" * (row + 1)) for row in range(2))
K, LONGEST, TEXTS = 3, 30, 8


def checks(server: Any, other: Any) -> dict[str, Callable[[], OutputResult]]:
    return {
        "endings": lambda: check_served_endings(server, PROMPTS, LIMIT),
        "texts, beside a reference": lambda: check_reference(server, other, PROMPTS, LIMIT),
        "batches": lambda: check_served_batches(server, PROMPTS, LIMIT, (1, 4)),
        "streams": lambda: check_streams(server, PROMPTS, LIMIT),
        "tool calls": lambda: check_tool_calls(server),
        "constraints": lambda: check_constraints(
            server, constrained_texts(server, PROMPTS[:1]), PROMPTS[:1]
        ),
    }


def of_letters(seeds: Iterable[int]) -> dict[str, collections.Counter[str]]:
    """Outcomes of each check on the right servers of some seeds."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for seed in seeds:
        server = RightServer(seed)
        for name, check in checks(server, server).items():
            result = check()
            found[name][result.outcome.value] += 1
            if result.outcome is CheckOutcome.FAILED:
                print(f"seed {seed}: {result}", flush=True)
        stopped: Any = server
        by_id = check_stop_tokens(stopped, PROMPTS, LIMIT)
        outcome = "failed" if by_id.fault else "not checked" if by_id.doubt else "ok"
        found["stop token ids"][outcome] += 1
        if by_id.fault:
            print(f"seed {seed}: {by_id}", flush=True)
    return dict(found)


def of_models(seeds: Iterable[int]) -> dict[str, collections.Counter[str]]:
    """Outcomes of the checks that read numbers alone, on the right engines of some seeds."""
    found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for seed in seeds:
        server: Any = RightServer(seed)
        several = check_choices(server, PROMPTS, LIMIT)
        outcome = "failed" if several.fault else "not checked" if several.doubt else "ok"
        found["several choices"][outcome] += 1
        rng = np.random.default_rng([8, seed])
        found["counters"]["failed" if counts_refused(rng) else "ok"] += 1
        found["constraints, masks by weights"]["failed" if masked_divergences(rng) else "ok"] += 1
        found["soak, cold and warm prefix"][cache_outcome(seed, PROMPTS)] += 1
        impossible = impossible_p(rng) <= ALPHA
        found["oracle, impossible rejections, at 1 %"]["failed" if impossible else "ok"] += 1
        penalised = penalised_evidence(np.random.default_rng([10, seed])) >= 1 / ALPHA
        found["texts, penalties and drafts, at 1 %"]["failed" if penalised else "ok"] += 1
    return dict(found)


def drawn_rounds(rng: np.random.Generator) -> PlayedRounds:
    """A run of the models: texts that are easy and hard to draft."""
    ease = rng.uniform(0.3, 0.9, (TEXTS, 1, 1))
    conditional = np.clip(ease + rng.uniform(-0.3, 0.3, (TEXTS, LONGEST, K)), 0.02, 0.98)
    survival, starts = conditional.cumprod(-1), rng.integers(1, 5, TEXTS)
    played = np.broadcast_to(np.arange(LONGEST) + K <= LONGEST, (TEXTS, LONGEST))
    cumulated = accepted_distribution(survival).cumsum(-1)
    rounds = []
    for text in range(TEXTS):
        at = int(starts[text])
        while at < LONGEST and played[text, at]:
            taken = int((rng.random() > cumulated[text, at, :-1]).sum())
            rounds.append((text, at, taken))
            at += taken + 1
    rows, begun, accepted = np.array(rounds).T
    return PlayedRounds(
        survival=survival,
        starts=starts,
        played=played,
        counted=played,
        rows=rows,
        begun=begun,
        accepted=accepted,
    )


def oracle_p(run: PlayedRounds) -> float:
    """As the oracle judges rounds, without rejections that are impossible."""
    walk: Any = SimpleNamespace(
        survival=run.survival, field=SimpleNamespace(starts=run.starts), played=run.played
    )
    taken, counted = np.arange(K + 1), run.counted[..., None]
    gains = [np.rint(_STEPS * (taken - run.survival.sum(-1, keepdims=True)) * counted).astype(int)]
    conditional = _conditional(run.survival)
    for step in range(K):
        beyond = (taken > step) - conditional[..., step, None]
        gains.append(np.rint(_STEPS * beyond * (taken >= step) * counted).astype(int))
    shares = [0.625] + [0.375 / K] * K
    return combined(
        [
            _deviation(walk, gain, int(gain[run.rows, run.begun, run.accepted].sum()), None, share)
            for gain, share in zip(gains, shares, strict=True)
        ]
    )


def soak_requests(rng: np.random.Generator) -> list[SoakRequest]:
    """Eight prompts in turn, greedy and sampled; ties of the drafter move a greedy round."""
    ease = rng.uniform(0.3, 0.8, 8)
    requests = []
    for number in range(160):
        prompt, greedy = number // 2 % 8, number % 2 == 0
        rounds = 30 + int(rng.integers(0, 2)) if greedy else 0
        accepted = 60 - rounds
        if not greedy:
            accepted = int(rng.binomial(60, ease[prompt]))
            rounds = 61 - accepted
        requests.append(SoakRequest(prompt=prompt, greedy=greedy, rounds=rounds, accepted=accepted))
    return requests


def of_numbers(seeds: range) -> dict[str, int]:
    """How often each statistical check alarms at alpha in the runs of some seeds."""
    alarms: collections.Counter[str] = collections.Counter()
    course.DRAWN = 399
    for seed in seeds:
        rng = np.random.default_rng([7, seed])
        run = drawn_rounds(rng)
        alarms["oracle, rounds"] += oracle_p(run) <= ALPHA
        alarms["oracle, course"] += not course.time_course(run, alpha=ALPHA, seed=seed).steady
        requests = soak_requests(rng)
        alarms["soak, drift"] += drift(requests, rng).highest >= 1 / ALPHA
        alarms["soak, mixture"] += len(greedy_split(requests).bad) >= 2
    return dict(alarms)


def lines(runs: int, jobs: int) -> tuple[list[str], bool]:
    """The table, and whether every level is kept."""
    found, kept = table("check", "runs", "judged", "called wrong", "95 % interval"), True
    parts = [range(begin, runs, jobs) for begin in range(jobs)]
    with ProcessPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        letters, numbers = [*pool.map(of_letters, parts)], [*pool.map(of_numbers, parts)]
        models = [*pool.map(of_models, parts)]
    for outcomes_by_part in (letters, models):
        more, held = rows_of(outcomes_by_part, runs)
        found, kept = [*found, *more], kept and held
    for name in numbers[0]:
        wrong = sum(part[name] for part in numbers)
        found.append(
            row(f"{name}, at 1 %", f"{runs:,}", f"{runs:,}", wrong, _interval(wrong, runs))
        )
        kept &= _held(wrong, runs)
    return found, kept


def rows_of(parts: list[dict[str, collections.Counter[str]]], runs: int) -> tuple[list[str], bool]:
    """A row for each check, and whether it never alarms, or as often as its alpha allows."""
    found, kept = [], True
    for name in parts[0]:
        outcomes = sum((part[name] for part in parts), collections.Counter[str]())
        judged, wrong = runs - outcomes["not checked"], outcomes["failed"]
        found.append(row(name, f"{runs:,}", f"{judged:,}", wrong, _interval(wrong, runs)))
        kept &= _held(wrong, runs) if name.endswith("at 1 %") else wrong == 0
    return found, kept


def _held(wrong: int, runs: int) -> bool:
    return bool(stats.binomtest(wrong, runs, ALPHA, alternative="greater").pvalue > 0.001)


def _interval(count: int, runs: int) -> str:
    low, high = stats.binomtest(count, runs).proportion_ci()
    return f"{low:.2%} to {high:.2%}"


PAGE = """
{runs:,} right servers in one process (`make output-level`): texts that end by themselves or not, end tokens that count
or not, stops that are kept or cut, usage, token ids and log-probabilities that are given or left out, characters over
several tokens, any chunks of a stream, and in three of ten servers a place where two tokens are a tie and requests part.
*Judged* are those of which the check could say something. The statistical checks run on what their models draw, or on
prompts whose requests are exchangeable. Counters are those of texts in every counting convention; impossible
rejections and masks are judged by logits that are rounded otherwise than the engine's (standard deviation 0.0001, the
tolerance is 0.001); penalties are those of a toy pair whose rounds, and in half of the runs drafts, are bet on; a cached
prefix may move a round of each text. That of `texts` by the target's weights without penalties is in
[conformance.md](conformance.md) and [when texts end](#when-texts-end), 2,000 runs each.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=JOBS, help="processes (default %(default)s)")
    arguments = parser.parse_args()
    found, kept = lines(RUNS, arguments.jobs)
    text = PAGE.format(runs=RUNS, table="\n".join(found))
    print(text)
    write_lines(arguments.into, MARKED, text.strip("\n"))
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
