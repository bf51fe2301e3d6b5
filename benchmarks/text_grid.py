"""Runs of the text suite's grid, many times over, kept for simulations of whole sessions.

    python benchmarks/text_grid.py --runs 20

measures, by replay, the 32 cells of the embedded draft model (4 k x 4 depths x 2 temperatures) on
texts that each run emits anew. At temperature 1 a run has a seed of its own. At temperature 0 a run
has a target of its own, the embedded one with noise of 0.2 % on its weights: its texts part from
the others' at near-ties, as those of an engine that rounds differently. The runs of a temperature
are exchangeable, and one run's cells share its texts, as in a session.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # the checkpoints of the tests

from helpers.embedded import PROMPTS
from helpers.support import EMBEDDED, add_noise

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.loading import LoadedModel, load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import encode_prompts, sample_new_tokens

KS, DEPTHS, TEMPERATURES = (4, 8, 12, 16), (0, 1, 2, 3), (1.0, 0.0)
NEW_TOKENS, NOISE = 128, 0.002
FILE = Path(__file__).parent.parent / ".specdec" / "text-grid.npz"

Cell = tuple[int, int, float]
"""k, depth, temperature."""
Grid = dict[Cell, list[Counts]]
"""The runs of each cell; a run's number means the same texts in all cells of a temperature."""


def measure(runs: int) -> Grid:
    """All cells of all runs, kept after each one."""
    draft = load_model(str(EMBEDDED / "text-draft"), "cpu")
    grid: Grid = {(k, depth, t): [] for t in TEMPERATURES for k in KS for depth in DEPTHS}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs):
            for temperature in TEMPERATURES:
                path = EMBEDDED / "text-target"
                if temperature == 0:
                    path = add_noise(path, Path(folder) / str(run), NOISE, seed=run)
                cells = _cells(load_model(str(path), "cpu"), draft, temperature, run)
                for cell, counts in cells.items():
                    grid[cell].append(counts)
            save(grid, FILE)
            print(f"run {run + 1} of {runs}", file=sys.stderr, flush=True)
    return grid


def _cells(
    target: LoadedModel, draft: LoadedModel, temperature: float, seed: int
) -> dict[Cell, Counts]:
    prompts = read_prompts(PROMPTS)
    ids = encode_prompts(target.tokenizer, prompts)
    sampling = Sampling(temperature)
    keys = [prompt.key for prompt in prompts]
    emitted = sample_new_tokens(
        target, ids, new_tokens=NEW_TOKENS, sampling=sampling, seed=seed, keys=keys
    )
    texts = [
        Text(prompt.key, prompt.category, (*start, *new), len(start))
        for prompt, start, new in zip(prompts, ids, emitted, strict=True)
    ]
    plans = [DrafterPlan(draft, depth, max(KS)) for depth in DEPTHS]
    rule = "rejection" if temperature > 0 else "greedy"
    return {
        (k, depth, temperature): expected_counts(scores.field(rule), k)
        for depth, scores in zip(DEPTHS, text_scores(target, plans, texts, sampling), strict=True)
        for k in KS
    }


def save(grid: Grid, path: Path) -> None:
    """Write the counts; every round drafts k tokens, so drafted tokens need no place."""
    first = next(iter(grid.values()))[0]
    arrays = {"prompts": np.array(first.prompts), "categories": np.array(first.categories)}
    for cell, runs in grid.items():
        name = "-".join(map(str, cell))
        arrays[f"rounds-{name}"] = np.stack([run.rounds for run in runs])
        arrays[f"accepted-{name}"] = np.stack([run.accepted for run in runs])
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load(path: Path = FILE) -> Grid:
    """The runs that were kept, rounded as a session rounds them."""
    kept = np.load(path)
    prompts, categories = (tuple(kept[name].tolist()) for name in ("prompts", "categories"))
    grid: Grid = {}
    for name in kept.files:
        what, _, cell = name.partition("-")
        if what != "rounds":
            continue
        k, depth, temperature = cell.split("-")
        grid[int(k), int(depth), float(temperature)] = [
            Counts(
                prompts, categories, rounds, np.repeat(rounds[:, None], int(k), axis=1), accepted
            )
            for rounds, accepted in zip(kept[name], kept[f"accepted-{cell}"], strict=True)
        ]
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    measure(parser.parse_args().runs)


if __name__ == "__main__":
    main()
