"""False alarms of the regimes that judge changed weights, on the text suite's whole grid.

    python benchmarks/regime_level.py drafter --sessions 10000
    python benchmarks/regime_level.py target --sessions 10000

A simulated session draws prompts from a population in which a change of weights moved every prompt,
and nothing on average: today's accepted tokens are rescaled, cell by cell, until the acceptance
length of the population is the baseline's. All 32 cells of a session hold the same prompts, so they
vary together as they do in a suite. Each session is judged at two margins: the default, and one so
small that only the bound over prompts keeps the promise. Prints one JSON line for each.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import changed_drafter
import changed_target
import numpy as np
from changed_drafter import ALPHA, DEPTHS, GATES, KS, MARGIN, TEMPERATURES
from helpers.embedded import Pair as ModelPair
from weight_changes import CHANGES, changed

from pytest_specdec.acceptance.contexts import context_counts
from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.gate import judge
from pytest_specdec.gate.changed_target import decided
from pytest_specdec.gate.facts import ComparisonFacts
from pytest_specdec.gate.paired import Pair
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.measured import MeasuredCase, MeasuredRun

MARGINS = (MARGIN, 1e-4)
NOISE = "noise 2 %"
SEEDS = 5
"""Populations, each of a noise of its own."""
POPULATION, PROMPTS = 1000, 40
"""Prompts of the changed target's population, and of a session on it."""
Cell = tuple[int, int, int]
Session = Callable[[np.random.Generator, float], list[str]]
"""The outcomes of one session at a margin."""


def centred(now: Counts, before: Counts) -> Counts:
    """Today's counts with the baseline's acceptance length over all prompts."""
    factor = before.accepted.sum() / before.rounds.sum() * now.rounds.sum() / now.accepted.sum()
    return dataclasses.replace(now, accepted=now.accepted * factor)


def drawn(counts: Counts, rows: list[int]) -> Counts:
    """The counts of drawn prompts, each draw a prompt of its own."""
    names = tuple(f"{place:04d}" for place in range(len(rows)))
    return dataclasses.replace(counts.select(rows), prompts=names)


def changed_drafters() -> Iterator[Session]:
    """Sessions on the committed baselines, for each of some noises of the draft's weights."""
    stored = changed_drafter.Stored.load()
    for seed in range(SEEDS):
        runs: dict[Cell, MeasuredRun] = {}
        with changed(stored.pair.draft, CHANGES[NOISE], seed):
            for cell, run in stored.runs():
                before = stored.baselines[cell].runs[0]
                runs[cell] = dataclasses.replace(
                    run,
                    counts=centred(run.counts, before.counts),
                    smoothed=None
                    if run.smoothed is None or before.smoothed is None
                    else centred(run.smoothed, before.smoothed),
                )
        yield drafter_session(stored.baselines, runs)


def drafter_session(
    baselines: Mapping[Cell, MeasuredCase], runs: Mapping[Cell, MeasuredRun]
) -> Session:
    def play(rng: np.random.Generator, margin: float) -> list[str]:
        prompts = len(next(iter(runs.values())).counts.prompts)
        rows = rng.integers(prompts, size=prompts).tolist()
        texts = {f"{place:04d}": "text" for place in range(prompts)}
        outcomes: list[str] = []
        for cell, run in runs.items():
            before = baselines[cell]
            sides = []
            for side in (before.runs[0], run):
                new = side.replace_counts(lambda counts: drawn(counts, rows))
                sides.append(dataclasses.replace(new, text_fingerprints=texts, contexts=None))
            target = before.fingerprints.target
            old = dataclasses.replace(before, runs=(sides[0],))
            now = dataclasses.replace(
                old,
                runs=(sides[1],),
                fingerprints=Fingerprints(target=target, drafter="changed"),
            )
            outcomes.append(judge(now, old, margin=margin, alpha=ALPHA, gates=GATES).outcome)
        return outcomes

    return play


def changed_targets() -> Iterator[Session]:
    """Sessions in the same contexts, for each of some noises of the target's weights."""
    pair = ModelPair.load()
    texts = {
        temperature: changed_target.sampled_texts(pair, POPULATION, temperature)
        for temperature in TEMPERATURES
    }
    sources: dict[int, list[list[float]] | None] = dict.fromkeys(TEMPERATURES)
    before: dict[Cell, Counts] = {}

    def measure(temperature: int) -> tuple[dict[Cell, Counts], list[list[float]]]:
        own = texts[temperature]
        (scores,) = text_scores(
            pair.target,
            [DrafterPlan(pair.draft, max(DEPTHS), max(KS))],
            own,
            Sampling(temperature),
            overlaps=True,
            source=sources[temperature],
        )
        limits = np.array([text.prompt_length + changed_target.NEW_TOKENS for text in own])
        rule = "rejection" if temperature else "greedy"
        cells = {}
        for depth in DEPTHS:
            for k in KS:
                found = context_counts(scores.first_heads(1 + depth), rule, k, limits)
                assert found is not None
                cells[k, depth, temperature] = found.counts
        return cells, changed_target.logprobs_of(scores, own)

    for temperature in TEMPERATURES:
        cells, logprobs = measure(temperature)
        before |= cells
        sources[temperature] = logprobs if temperature else None
    for seed in range(SEEDS):
        with changed(pair.target, CHANGES[NOISE], seed):
            after = {
                cell: centred(counts, before[cell])
                for temperature in TEMPERATURES
                for cell, counts in measure(temperature)[0].items()
            }
        yield target_session(before, after)


def target_session(before: Mapping[Cell, Counts], after: Mapping[Cell, Counts]) -> Session:
    def play(rng: np.random.Generator, margin: float) -> list[str]:
        rows = rng.integers(POPULATION, size=PROMPTS).tolist()
        outcomes: list[str] = []
        for cell, old in before.items():
            pair = Pair.of([drawn(old, rows)], [drawn(after[cell], rows)])
            facts = ComparisonFacts.of("acceptance_length", pair, ())
            estimate = facts.estimate("in the same contexts")
            outcomes.append(decided(facts, estimate, margin, ALPHA / GATES / 2)[0])
        return outcomes

    return play


REGIMES = {"drafter": changed_drafters, "target": changed_targets}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regime", choices=REGIMES)
    parser.add_argument("--sessions", type=int, default=10_000)
    given = parser.parse_args()
    failed: dict[float, dict[str, int]] = {
        margin: dict.fromkeys(("regressed", "improved", "inconclusive"), 0) for margin in MARGINS
    }
    for number, session in enumerate(REGIMES[given.regime]()):
        rng = np.random.default_rng(number)
        for _ in range(given.sessions // SEEDS):
            for margin, found in failed.items():
                outcomes = session(rng, margin)
                for outcome in found:
                    found[outcome] += outcome in outcomes
    for margin, found in failed.items():
        row: dict[str, Any] = {
            "what": "regime level",
            "regime": given.regime,
            "margin": margin,
            "sessions": given.sessions // SEEDS * SEEDS,
        }
        print(json.dumps({**row, **found}))


if __name__ == "__main__":
    main()
