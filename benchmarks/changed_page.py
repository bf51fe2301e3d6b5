"""Write docs/changed-weights.md from the JSON lines of changed_drafter.py, changed_target.py,
changed_real_pair.py and retrained_drafts.py.

python benchmarks/changed_page.py LINES... > docs/changed-weights.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HEAD = """# What changed weights do to verdicts

How often the gate is wrong, or undecided, where weights changed: harmless changes must pass, harmful ones must fail. Made
by `make changed-weights` from the embedded pair, which takes about an hour of one core.
[gate.md](gate.md#what-changed-decides-how-a-drop-is-judged) describes the regimes.
"""
DRAFTER = """
## The drafter changed

A session is the text suite's grid (4 k, 4 depths, temperatures 0 and 1: 32 gates), margin 1 %, alpha 1 %. A share is
that of the sessions in which at least one gate says so. The drops are those of k = 8, depth 0, averaged over sessions.

| change of the draft | sessions | drop T=1 | exact drop T=0 | smoothed drop T=0 | fail | fail, T=0 alone | improved | inconclusive |
|---|---|---|---|---|---|---|---|---|
"""
TARGET = """
## The target changed

The truth is the change over all prompts of the corpus generator, on texts of the old target that are sampled once. Each
draw takes a sample of prompts, with replacement, and judges the change by it alone, at the level that one of 32 gates
has. *coverage*: how often the 95 % interval of the sample holds the truth. *detectable*: the smallest drop that the sample
would detect at 80 % power, whatever the margin.

| change of the target | T | truth | prompts | draws | coverage | decided | pass | regressed | improved | detectable | effective contexts |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""

REAL = """
## A real pretrained pair

SmolLM2-135M-Instruct with a drafter made of it, k = 4 at temperatures 0 and 1 (two gates), few prompts: made by
`python benchmarks/changed_real_pair.py exit-20 --prompts 16 --seeds 20`. A drop is the mean of what was judged, with
its standard deviation over seeds.

| pair | changed | change | sessions | prompts | length T=0 / T=1 | drop T=0 | drop T=1 | fail | improved |
|---|---|---|---|---|---|---|---|---|---|
"""

RETRAINED = """
## A draft trained again: which margin?

Small drafts for the embedded target, five recipes with five seeds each. Within a recipe no training is the better one by
intent; a session compares two of them in either direction (20 sessions of eight gates: k = 4, 8, 12 and 16 at temperatures
0 and 1). The other rows compare each draft of the first recipe with each of another (25 sessions). A share is that of the
sessions in which at least one gate fails (*f*) or says `improved` (*i*) at that margin. *distance*: by how much the
acceptance lengths of two drafts differ at k = 8, temperature 1. Made by `python benchmarks/retrained_drafts.py`.

| drafts | distance: median | largest | f 0.5 % | f 1 % | f 2 % | f 5 % | i 0.5 % | i 1 % | i 2 % | i 5 % |
|---|---|---|---|---|---|---|---|---|---|---|
"""
CHOICE = """
So a margin is a decision about what counts as the same draft. The default of 1 % is for weights that should not have
moved acceptance: another rounding, another export, a repaired kernel. If you train drafts again and keep whichever comes
out, use a margin above the largest distance between two seeds of your own recipe (about 5 % here), or compare several seeds as
[candidates](compare-checkpoints.md).
"""


def percent(value: float, digits: int = 2) -> str:
    return f"{100 * value:.{digits}f} %"


def drafter_row(row: dict[str, Any]) -> str:
    cells = [
        row["change"],
        str(row["sessions"]),
        percent(row["drop T=1"]),
        percent(row["drop T=0"]),
        percent(row["smoothed drop T=0"]),
        percent(row["regressed T=0,1"], 1),
        percent(row["regressed T=0"], 1),
        percent(row["improved T=0,1"], 1),
        percent(row["inconclusive T=0,1"], 1),
    ]
    return f"| {' | '.join(cells)} |"


def target_row(row: dict[str, Any]) -> str:
    outcomes, draws = row["outcomes"], row["draws"]
    decided = draws - outcomes.get("inconclusive", 0)
    shares = [outcomes.get(name, 0) / draws for name in ("pass", "regressed", "improved")]
    cells = [
        row["change"],
        f"{row['temperature']:g}",
        percent(row["truth"], 3),
        str(row["prompts"]),
        str(draws),
        percent(row["coverage"], 1),
        percent(decided / draws, 1),
        *(percent(share, 1) for share in shares),
        percent(row["detectable"]),
        percent(row["effective"], 1) if row["temperature"] else "-",
    ]
    return f"| {' | '.join(cells)} |"


def real_row(row: dict[str, Any]) -> str:
    lengths, drops, spread = row["lengths"], row["drops"], row["spread"]
    cells = [
        row["pair"],
        row["role"],
        row["change"],
        str(row["sessions"]),
        str(row["prompts"]),
        f"{lengths['0']:.3f} / {lengths['1']:.3f}",
        *(f"{percent(drops[t], 3)} ± {percent(spread[t], 3)}" for t in ("0", "1")),
        percent(row["failed"], 1),
        percent(row["improved"], 1),
    ]
    return f"| {' | '.join(cells)} |"


def retrained_row(row: dict[str, Any]) -> str:
    margins = ("margin 0.005", "margin 0.01", "margin 0.02", "margin 0.05")
    shares = [
        percent(row[margin][outcome] / row["sessions"], 0)
        for outcome in ("regressed", "improved")
        for margin in margins
    ]
    cells = [row["recipe"], percent(row["median"]), percent(row["largest"]), *shares]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    rows = [
        json.loads(line)
        for name in sys.argv[1:]
        for line in Path(name).read_text().splitlines()
        if line
    ]
    print(HEAD, end="")
    print(DRAFTER + "\n".join(drafter_row(row) for row in rows if "cells" in row))
    targets = [row for row in rows if "draws" in row]
    print(TARGET + "\n".join(target_row(row) for row in targets))
    print()
    for temperature in (1, 0):
        same = [row for row in targets if row["temperature"] == temperature]
        if draws := sum(row["draws"] for row in same):
            covered = sum(row["coverage"] * row["draws"] for row in same) / draws
            undecided = sum(row["outcomes"].get("inconclusive", 0) for row in same) / draws
            print(
                f"Over all {draws:,} draws at temperature {temperature} the coverage is "
                f"{percent(covered, 1)}, and {percent(1 - undecided, 1)} are decided."
            )
    real = [row for row in rows if "pair" in row]
    if real:
        print(REAL + "\n".join(real_row(row) for row in real))
    retrained = [row for row in rows if "recipe" in row]
    if retrained:
        print(
            RETRAINED + "\n".join(retrained_row(row) for row in retrained) + "\n" + CHOICE, end=""
        )


if __name__ == "__main__":
    main()
