"""The promises of a session's one max-test, shown on the text suite's own grid.

    python benchmarks/text_grid.py --runs 20
    python benchmarks/session_proof.py level --sessions 10000
    python benchmarks/session_proof.py power --sessions 300

A simulated session compares two runs of all 32 cells that `text_grid.py` keeps: for each prompt two
of the runs at random, the same two in all cells of a temperature, so that the cells vary together
as they do in a session whose texts are emitted anew. Every cell is judged by the gate itself. The
same sessions are also judged with alpha shared by Bonferroni's inequality. Each command prints one
JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import text_grid
from simulation import ALPHA, MARGIN, stored
from text_grid import Cell

from pytest_specdec.acceptance.counts import Array, Counts
from pytest_specdec.gate import judge
from pytest_specdec.gate.session_cells import swapped_pair
from pytest_specdec.gate.session_test import CellTest, Family, SessionTest
from pytest_specdec.records.measured import MeasuredCase

_BLOCK = 50
"""Sessions that share a random stream, so that any number of processes plays the same ones."""
Losses = Callable[[Cell], Array]
"""The factor on a cell's survival at each position."""
Session = Mapping[Cell, tuple[MeasuredCase, MeasuredCase]]
"""Now and before of each cell."""


def everywhere(share: float) -> Losses:
    return lambda cell: np.full(cell[0], 1 - share)


def in_cells(of: Callable[[Cell], bool], share: float) -> Losses:
    return lambda cell: np.full(cell[0], 1 - share * of(cell))


def from_position(first: int, share: float) -> Losses:
    return lambda cell: np.where(np.arange(1, cell[0] + 1) >= first, 1 - share, 1.0)


CHANGES: dict[str, Losses] = {
    "every cell, 4 %": everywhere(0.04),
    "every cell, 6 %": everywhere(0.06),
    "every cell from position 4 on, 15 %": from_position(4, 0.15),
    "depth 3 alone, 8 %": in_cells(lambda cell: cell[1] == 3, 0.08),
    "temperature 1 alone, 6 %": in_cells(lambda cell: cell[2] > 0, 0.06),
    "one cell alone (k = 8, depth 0, temperature 1), 10 %": in_cells(
        lambda cell: cell == (8, 0, 1.0), 0.1
    ),
}
"""Losses of accepted tokens, by name."""


@cache
def _grid() -> text_grid.Grid:
    return text_grid.load()


def session(rng: np.random.Generator, losses: Losses | None = None) -> Session:
    """Two runs of all cells; `losses` are those of the second."""
    grid = _grid()
    runs, prompts = len(next(iter(grid.values()))), len(next(iter(grid.values()))[0].prompts)
    picks = {
        temperature: np.array([rng.permutation(runs)[:2] for _ in range(prompts)]).T
        for temperature in sorted({cell[2] for cell in grid})
    }
    sides = {}
    for cell, counts in grid.items():
        before, now = (_picked(counts, pick) for pick in picks[cell[2]])
        if losses is not None:
            now.accepted[:] *= losses(cell)
        sides[cell] = stored(now, "text-2"), stored(before, "text-1")
    return sides


def _picked(runs: list[Counts], pick: np.ndarray) -> Counts:
    """Each prompt's counts from the run that is picked for it."""
    rounds, accepted = (
        np.stack([getattr(runs[run], name)[row] for row, run in enumerate(pick)])
        for name in ("rounds", "accepted")
    )
    drafted = np.repeat(rounds[:, None], accepted.shape[1], axis=1)
    return Counts(runs[0].prompts, runs[0].categories, rounds, drafted, accepted)


def failed(sides: Session, rule: str) -> set[Cell]:
    """The cells that the gate fails, tested together or each at its share of alpha."""
    gates = len(sides)

    def family() -> Family:
        pairs = {cell: swapped_pair(*pair) for cell, pair in sides.items()}
        return Family(pairs={cell: pair for cell, pair in pairs.items() if pair is not None})

    together = SessionTest(alpha=ALPHA, gates=gates, family=family)
    alone: Mapping[Hashable, CellTest] = {cell: CellTest.alone(ALPHA / gates) for cell in sides}
    return {
        cell
        for cell, (now, before) in sides.items()
        if judge(
            now,
            before,
            margin=MARGIN,
            alpha=ALPHA,
            gates=gates,
            test=together.of(cell) if rule == "together" else alone[cell],
        ).outcome
        == "regressed"
    }


RULES = ("together", "Bonferroni")


def block(change: str, number: int) -> list[dict[str, int]]:
    """How many cells fail by each rule, in each session of a block."""
    names = ["unchanged", *CHANGES]
    rng = np.random.default_rng([names.index(change), number])
    sessions = (session(rng, CHANGES.get(change)) for _ in range(_BLOCK))
    return [{rule: len(failed(sides, rule)) for rule in RULES} for sides in sessions]


def played(change: str, sessions: int, jobs: int) -> dict[str, Any]:
    with ProcessPoolExecutor(jobs) as pool:
        blocks = pool.map(partial(block, change), range(-(-sessions // _BLOCK)))
        rows = [row for block in blocks for row in block]
    cells = len(_grid())
    return {
        "change": change,
        "sessions": len(rows),
        "cells": cells,
        "failed": {rule: sum(row[rule] > 0 for row in rows) for rule in RULES},
        "named": {rule: sum(row[rule] for row in rows) for rule in RULES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["level", "power"])
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    changes = ["unchanged"] if asked.what == "level" else list(CHANGES)
    rows = [played(change, asked.sessions, asked.jobs) for change in changes]
    print(json.dumps({"what": f"session {asked.what}", "alpha": ALPHA, "rows": rows}))


if __name__ == "__main__":
    main()
