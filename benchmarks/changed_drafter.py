"""How often the gate fails a session in which only the drafter's weights changed.

    python benchmarks/changed_drafter.py "noise 0.2 %" --seeds 200

A session is the text suite's grid (4 k, 4 depths, temperatures 0 and 1) against the committed
baselines. Prints one JSON line for each change: how many sessions failed, improved or were
inconclusive, with both temperatures and with temperature 0 alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from weight_changes import CHANGES, changed

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from helpers.embedded import PROMPTS
from helpers.embedded import Pair as ModelPair

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.acceptance.scores import SMOOTHING, Scores
from pytest_specdec.baselines.store import load_baseline
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text, texts_of_prompts
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.gate import Verdict, judge
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.measured import MeasuredCase, MeasuredRun

BASELINES = Path(__file__).parent.parent / "baselines" / "text"
KS, DEPTHS, TEMPERATURES = (4, 8, 12, 16), (0, 1, 2, 3), (0, 1)
ALPHA, MARGIN = 0.01, 0.01
GATES = len(KS) * len(DEPTHS) * len(TEMPERATURES)


@dataclasses.dataclass(frozen=True)
class Stored:
    """The embedded pair with its committed texts and baselines."""

    pair: ModelPair
    texts: dict[int, tuple[Text, ...]]
    baselines: dict[tuple[int, int, int], MeasuredCase]

    @classmethod
    def load(cls) -> Stored:
        pair, prompts = ModelPair.load(), read_prompts(PROMPTS)
        texts = {}
        for temperature in TEMPERATURES:
            file = BASELINES / "texts" / f"t{temperature}-n128-s0.json"
            new = json.loads(file.read_text())["texts"]
            texts[temperature] = texts_of_prompts(
                prompts, pair.prompts, [new[prompt.key] for prompt in prompts]
            )
        baselines = {
            (k, depth, temperature): load_baseline(
                BASELINES / f"text-draft-k{k}-depth{depth}-t{temperature}.json"
            ).as_measured()
            for k in KS
            for depth in DEPTHS
            for temperature in TEMPERATURES
        }
        return cls(pair, texts, baselines)

    def session(self) -> Iterator[tuple[tuple[int, int, int], Verdict]]:
        """The verdict of every cell with the pair as it is now."""
        return ((cell, self.judged(cell, run)) for cell, run in self.runs())

    def runs(self) -> Iterator[tuple[tuple[int, int, int], MeasuredRun]]:
        """Every cell's run with the pair as it is now, as it would be stored."""
        plan = DrafterPlan(self.pair.draft, max(DEPTHS), max(KS))
        for temperature in TEMPERATURES:
            texts = self.texts[temperature]
            (scores,) = text_scores(self.pair.target, [plan], texts, Sampling(temperature))
            for depth in DEPTHS:
                for k in KS:
                    cell = (k, depth, temperature)
                    run = measured(scores.first_heads(1 + depth), texts, k, temperature)
                    yield cell, run.rounded()

    def judged(self, cell: tuple[int, int, int], run: MeasuredRun) -> Verdict:
        before = self.baselines[cell]
        now = dataclasses.replace(
            before,
            runs=(run,),
            fingerprints=Fingerprints(target=before.fingerprints.target, drafter="changed"),
            smoothing=SMOOTHING if before.smoothing else None,
        )
        return judge(now, before, margin=MARGIN, alpha=ALPHA, gates=GATES)


def measured(scores: Scores, texts: tuple[Text, ...], k: int, temperature: int) -> MeasuredRun:
    rule = "greedy" if temperature == 0 else "rejection"
    return MeasuredRun(
        counts=expected_counts(scores.field(rule), k),
        text_fingerprints={text.key: text.fingerprint for text in texts},
        smoothed=expected_counts(scores.smoothed_field(), k) if temperature == 0 else None,
    )


def summary(sessions: list[dict[tuple[int, int, int], Verdict]]) -> dict[str, object]:
    """Shares of sessions by their worst outcome, and the mean change of k = 8, depth 0."""

    def share(outcome: str, temperatures: tuple[int, ...]) -> float:
        hits = sum(
            any(v.outcome == outcome for cell, v in cells.items() if cell[2] in temperatures)
            for cells in sessions
        )
        return hits / len(sessions)

    def mean(temperature: int, smoothed: bool) -> float:
        verdicts = [cells[8, 0, temperature] for cells in sessions]
        drops = [
            v.estimate.drop if smoothed and v.estimate is not None else v.drop for v in verdicts
        ]
        return sum(drop for drop in drops if drop is not None) / len(drops)

    outcomes = Counter(v.outcome for cells in sessions for v in cells.values())
    return {
        "sessions": len(sessions),
        **{
            f"{outcome} {words}": share(outcome, temperatures)
            for outcome in ("regressed", "improved", "inconclusive")
            for words, temperatures in (("T=0,1", (0, 1)), ("T=0", (0,)), ("T=1", (1,)))
        },
        "cells": dict(outcomes),
        "drop T=1": mean(1, False),
        "drop T=0": mean(0, False),
        "smoothed drop T=0": mean(0, True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=CHANGES)
    parser.add_argument("--seeds", type=int, default=20)
    given = parser.parse_args()
    stored = Stored.load()
    for kind in given.kinds:
        sessions = []
        for seed in range(given.seeds):
            with changed(stored.pair.draft, CHANGES[kind], seed):
                sessions.append(dict(stored.session()))
        print(json.dumps({"change": kind, **summary(sessions)}), flush=True)


if __name__ == "__main__":
    main()
