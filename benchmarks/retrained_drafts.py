"""What a margin means for drafts that are trained again: five recipes, five seeds of each.

    python benchmarks/retrained_drafts.py --folder .specdec/retrained     # about 25 minutes of a core

Two trainings of one recipe differ only by the order of their data and their first weights, and
neither is the better one by intent. One stands in for the baseline, the other for today's draft; a
session is k = 4, 8, 12 and 16 at temperatures 0 and 1 on the committed texts: eight gates. Prints
one JSON line for each recipe, and one for the step from the first recipe to each of the others.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import statistics
import sys
from pathlib import Path

import torch
from changed_drafter import ALPHA, KS, TEMPERATURES, Stored, measured
from transformers import PreTrainedTokenizerFast

from pytest_specdec.acceptance.scores import SMOOTHING
from pytest_specdec.cases.case import Sampling
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.gate import Verdict, judge
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.records.measured import MeasuredRun

sys.path.insert(0, str(Path(__file__).parent.parent / "suites" / "models"))

import build

GATES = len(KS) * len(TEMPERATURES)
MARGINS = (0.005, 0.01, 0.02, 0.05)
SEEDS = 5
BASE = dataclasses.replace(build.RECIPES[1], steps=700, head_steps=())
RECIPES = {
    "as the committed draft, a quarter of its steps": BASE,
    "a third more steps": dataclasses.replace(BASE, steps=930),
    "a third of the rate": dataclasses.replace(BASE, rate=1e-3),
    "half the batch": dataclasses.replace(BASE, batch=8),
    "half again as wide": dataclasses.replace(BASE, hidden=96, heads=3),
}
Cell = tuple[int, int]
Runs = dict[Cell, MeasuredRun]


@functools.cache
def data(seed: int) -> tuple[PreTrainedTokenizerFast, torch.Tensor, torch.Tensor]:
    """The committed pair's tokenizer, training tokens and held-out tokens."""
    texts = build.documents(seed)
    tokenizer = build.train_tokenizer(texts[build.HELD_OUT :])
    stream, held_out = (
        build.encode(tokenizer, part) for part in (texts[build.HELD_OUT :], texts[: build.HELD_OUT])
    )
    return tokenizer, stream, held_out


def trained(name: str, seed: int, folder: Path) -> Path:
    """The folder of a draft, which is trained unless it is there."""
    place = folder / f"{list(RECIPES).index(name)}-{seed}"
    recipe = dataclasses.replace(RECIPES[name], name=place.name)
    if not (place / "training.json").exists():
        build.SEED, original = build.SEED + 1 + seed, build.SEED
        try:
            tokenizer, stream, held_out = data(original)
            rows = held_out[: 48 * recipe.length].view(-1, recipe.length)
            with torch.inference_mode(False), torch.enable_grad():
                done = build.train(recipe, lambda: build.batches(stream, recipe), rows)
            build.save(recipe, *done, tokenizer, folder)
        finally:
            build.SEED = original
    return place


def runs_of(stored: Stored, folder: Path) -> Runs:
    """Every cell's run with a draft, as it would be stored."""
    plan = DrafterPlan(load_model(str(folder), "cpu"), 0, max(KS))
    runs = {}
    for temperature in TEMPERATURES:
        texts = stored.texts[temperature]
        (scores,) = text_scores(stored.pair.target, [plan], texts, Sampling(temperature))
        for k in KS:
            runs[k, temperature] = measured(scores, texts, k, temperature).rounded()
    return runs


def session(stored: Stored, before: Runs, now: Runs, margin: float) -> dict[Cell, Verdict]:
    """The verdicts on one draft with another's runs as the baselines."""
    verdicts = {}
    for (k, temperature), run in now.items():
        record = stored.baselines[k, 0, temperature]
        target = record.fingerprints.target
        old, new = (
            dataclasses.replace(
                record,
                runs=(side,),
                fingerprints=Fingerprints(target=target, drafter=drafter),
                smoothing=None if temperature else SMOOTHING,
            )
            for side, drafter in ((before[k, temperature], "before"), (run, "now"))
        )
        verdicts[k, temperature] = judge(new, old, margin=margin, alpha=ALPHA, gates=GATES)
    return verdicts


def row(stored: Stored, name: str, pairs: list[tuple[Runs, Runs]]) -> dict[str, object]:
    """How often sessions of these pairs say what, and how far apart the drafts are."""
    found: dict[str, object] = {"recipe": name, "sessions": len(pairs)}
    for margin in MARGINS:
        sessions = [session(stored, before, now, margin) for before, now in pairs]
        found[f"margin {margin:g}"] = {
            outcome: sum(
                any(verdict.outcome == outcome for verdict in verdicts.values())
                for verdicts in sessions
            )
            for outcome in ("regressed", "improved", "inconclusive")
        }
    moved = [
        abs(1 - now[8, 1].counts.acceptance_length / before[8, 1].counts.acceptance_length)
        for before, now in pairs
    ]
    return {**found, "median": statistics.median(moved), "largest": max(moved)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".specdec/retrained"))
    folder = parser.parse_args().folder
    stored = Stored.load()
    runs = {
        name: [runs_of(stored, trained(name, seed, folder)) for seed in range(SEEDS)]
        for name in RECIPES
    }
    first, *others = RECIPES
    for name in RECIPES:
        print(json.dumps(row(stored, name, [*itertools.permutations(runs[name], 2)])), flush=True)
    for name in others:
        pairs = [*itertools.product(runs[first], runs[name])]
        print(json.dumps(row(stored, f"{first} -> {name}", pairs)), flush=True)


if __name__ == "__main__":
    main()
