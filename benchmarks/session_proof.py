"""The promises of a session's one max-test, shown on the text suite's own grid.

    python benchmarks/text_grid.py --runs 20
    python benchmarks/session_proof.py level --sessions 10000
    python benchmarks/session_proof.py power

A simulated session compares two runs of all 32 cells that `text_grid.py` keeps: for each prompt two
of the runs at random, the same two in all cells of a temperature, so that the cells vary together
as they do in a session whose texts are emitted anew. Every cell is judged by the gate itself. For
power other rules judge the same sessions. Each command prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import simulation
import text_grid
from simulation import ALPHA
from text_grid import Cell

from pytest_specdec.acceptance.counts import Array, Counts
from pytest_specdec.gate.permutation import TIE, SwapStatistic, distributions, labellings_of
from pytest_specdec.gate.session_cells import swapped_pair
from pytest_specdec.gate.session_test import step_down

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


def failed(gates: Session) -> set[Cell]:
    """The cells that the gate fails."""
    verdicts = simulation.session(list(gates.values()))
    return {
        cell
        for cell, verdict in zip(gates, verdicts, strict=True)
        if verdict.outcome == "regressed"
    }


def by_other_rules(gates: Session) -> dict[str, set[Cell]]:
    """The cells whose statistics other rules reject: Bonferroni's inequality, and a step-down test
    of the smallest p-value, which takes 32 times the labellings of the max-test.
    """
    pairs = [pair for sides in gates.values() if (pair := swapped_pair(*sides)) is not None]
    statistics = [SwapStatistic(pair) for pair in pairs]
    values = distributions(statistics, labellings_of(pairs[0], 10 * len(pairs) * round(1 / ALPHA)))
    order = np.sort(values, axis=1)
    p_values = np.array(
        [
            1 - np.searchsorted(own, row - TIE) / len(row)
            for own, row in zip(order, values, strict=True)
        ]
    )
    adjusted = step_down(-p_values[:, 0], -p_values)
    return {
        "Bonferroni": {
            cell for cell, p in zip(gates, p_values[:, 0], strict=True) if p <= ALPHA / len(pairs)
        },
        "smallest p": {cell for cell, p in zip(gates, adjusted, strict=True) if p <= ALPHA},
    }


def block(change: str, number: int) -> list[dict[str, set[Cell]]]:
    """The cells that fail by each rule, in each session of a block; where nothing changed by the
    gate's alone.
    """
    names = ["unchanged", *CHANGES]
    rng = np.random.default_rng([names.index(change), number])
    rows = []
    for _ in range(_BLOCK):
        gates = session(rng, CHANGES.get(change))
        others = by_other_rules(gates) if change in CHANGES else {}
        rows.append({"together": failed(gates), **others})
    return rows


def played(change: str, sessions: int, jobs: int) -> dict[str, Any]:
    """Sessions with a change, judged by the rules: how many fail, and how many of the cells that
    changed are named.
    """
    with ProcessPoolExecutor(jobs) as pool:
        blocks = pool.map(partial(block, change), range(-(-sessions // _BLOCK)))
        rows = [row for block in blocks for row in block]
    losses = CHANGES.get(change, everywhere(0.0))
    changed = {cell for cell in _grid() if (losses(cell) < 1).any()}
    return {
        "change": change,
        "sessions": len(rows),
        "cells": len(_grid()),
        "changed": len(changed),
        "failed": {rule: sum(bool(row[rule]) for row in rows) for rule in rows[0]},
        "named": {rule: sum(len(row[rule] & changed) for row in rows) for rule in rows[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["level", "power"])
    parser.add_argument("--sessions", type=int, help="10,000 for the level, 200 for power")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    if asked.what == "level":
        rows = [played("unchanged", asked.sessions or 10_000, asked.jobs)]
    else:
        rows = [played(change, asked.sessions or 200, asked.jobs) for change in CHANGES]
    print(json.dumps({"what": f"session {asked.what}", "alpha": ALPHA, "rows": rows}))


if __name__ == "__main__":
    main()
