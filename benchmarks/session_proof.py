"""The promises of a session's one max-test, shown on the text suite's own grid.

    python benchmarks/text_grid.py --runs 20
    python benchmarks/session_proof.py level --sessions 10000
    python benchmarks/session_proof.py power

A simulated session compares two runs of all 32 cells that `text_grid.py` keeps: for each prompt two
of the runs at random, the same two in all cells of a temperature, so that the cells vary together
as they do in a session whose texts are emitted anew. Every cell is judged by the gate itself. For
power the same sessions are also judged with alpha shared by Bonferroni's inequality. Each command
prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import simulation
import text_grid
from simulation import ALPHA, MARGIN
from text_grid import Cell

from pytest_specdec.acceptance.counts import Array, Counts
from pytest_specdec.gate import judge

_BLOCK = 50
"""Sessions that share a random stream, so that any number of processes plays the same ones."""
Losses = Callable[[Cell], Array]
"""The factor on a cell's survival at each position."""
Session = Mapping[Cell, simulation.Sides]


def everywhere(share: float) -> Losses:
    return lambda cell: np.full(cell[0], 1 - share)


def in_cells(of: Callable[[Cell], bool], share: float) -> Losses:
    return lambda cell: np.full(cell[0], 1 - share * of(cell))


def from_position(first: int, share: float) -> Losses:
    return lambda cell: np.where(np.arange(1, cell[0] + 1) >= first, 1 - share, 1.0)


CHANGES: dict[str, Losses] = {
    "every cell, 3 %": everywhere(0.03),
    "every cell, 5 %": everywhere(0.05),
    "every cell, 8 % from position 3 on": from_position(3, 0.08),
    "the 8 cells of depth 3, 4 %": in_cells(lambda cell: cell[1] == 3, 0.04),
    "the 16 cells of temperature 1, 10 %": in_cells(lambda cell: cell[2] > 0, 0.10),
    "one cell (k = 4, depth 0, temperature 0), 3 %": in_cells(
        lambda cell: cell == (4, 0, 0.0), 0.03
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
    gates = {}
    for cell, counts in grid.items():
        before, now = (_picked(counts, pick) for pick in picks[cell[2]])
        if losses is not None:
            now.accepted[:] *= losses(cell)
        gates[cell] = simulation.sides(before, now)
    return gates


def _picked(runs: list[Counts], pick: np.ndarray) -> Counts:
    """Each prompt's counts from the run that is picked for it."""
    rounds, accepted = (
        np.stack([getattr(runs[run], name)[row] for row, run in enumerate(pick)])
        for name in ("rounds", "accepted")
    )
    drafted = np.repeat(rounds[:, None], accepted.shape[1], axis=1)
    return Counts(runs[0].prompts, runs[0].categories, rounds, drafted, accepted)


def failed(gates: Session, rule: str) -> set[Cell]:
    """The cells that the gate fails, tested together or each at its share of alpha."""
    if rule == "together":
        verdicts = simulation.session(list(gates.values()))
    else:
        verdicts = [
            judge(*sides, margin=MARGIN, alpha=ALPHA, gates=len(gates)) for sides in gates.values()
        ]
    return {
        cell
        for cell, verdict in zip(gates, verdicts, strict=True)
        if verdict.outcome == "regressed"
    }


RULES = ("together", "Bonferroni")


def block(change: str, rules: Sequence[str], number: int) -> list[dict[str, set[Cell]]]:
    """The cells that fail by each rule, in each session of a block."""
    names = ["unchanged", *CHANGES]
    rng = np.random.default_rng([names.index(change), number])
    sessions = (session(rng, CHANGES.get(change)) for _ in range(_BLOCK))
    return [{rule: failed(gates, rule) for rule in rules} for gates in sessions]


def played(change: str, rules: Sequence[str], sessions: int, jobs: int) -> dict[str, Any]:
    """Sessions with a change, judged by the rules: how many fail, and how many of the cells that
    changed are named.
    """
    with ProcessPoolExecutor(jobs) as pool:
        blocks = pool.map(partial(block, change, rules), range(-(-sessions // _BLOCK)))
        rows = [row for block in blocks for row in block]
    losses = CHANGES.get(change, everywhere(0.0))
    changed = {cell for cell in _grid() if (losses(cell) < 1).any()}
    return {
        "change": change,
        "sessions": len(rows),
        "cells": len(_grid()),
        "changed": len(changed),
        "failed": {rule: sum(bool(row[rule]) for row in rows) for rule in rules},
        "named": {rule: sum(len(row[rule] & changed) for row in rows) for rule in rules},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["level", "power"])
    parser.add_argument("--sessions", type=int, help="10,000 for the level, 200 for power")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    if asked.what == "level":
        rows = [played("unchanged", RULES[:1], asked.sessions or 10_000, asked.jobs)]
    else:
        rows = [played(change, RULES, asked.sessions or 200, asked.jobs) for change in CHANGES]
    print(json.dumps({"what": f"session {asked.what}", "alpha": ALPHA, "rows": rows}))


if __name__ == "__main__":
    main()
