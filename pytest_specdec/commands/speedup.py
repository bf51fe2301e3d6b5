"""`speedup`: what stored baselines come to under cost profiles. Needs neither models nor torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..acceptance.counts import Counts
    from ..speedup.advice import Advice

_COLUMNS = "  {:>3}  {:>5}  {:>7}  {:>9}  {:>8}  {:>14}  {:>8}  {:>6}  {:>6}"


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("baselines", type=Path, metavar="FOLDER", help="a folder of stored baselines")
    parser.add_argument("--costs", type=Path, required=True, action="append", metavar="FILE", help="may be given more than once")


def run(asked: argparse.Namespace) -> int:
    from ..acceptance.case import LOOKUP, OWN_HEADS
    from ..printable import printable
    from ..speedup.advice import advise
    from ..speedup.costs import CostProfile

    profiles = {path: CostProfile.load(path).with_target(path) for path in asked.costs}
    for (name, drafter), counts in _groups(asked.baselines).items():
        for path, costs in profiles.items():
            covering = costs.extended(k for k, _ in counts)
            advice = advise(counts, covering, own_heads=drafter == OWN_HEADS, lookup=drafter == LOOKUP)
            lines = _lines(f"{name}, costs of {path} (batch {costs.batch_size})", counts, advice)
            print("\n".join(map(printable, lines)))
    print("needs and has: the acceptance of one more token at which it would leave the speed-up as it is, and its acceptance")
    return 0


def _groups(folder: Path) -> dict[tuple[str, str], dict[tuple[int, int], Counts]]:
    """Counts by k and depth, for each name without these and its kind of drafter."""
    from ..baselines.diff import record_names
    from ..baselines.store import load_baseline
    from ..errors import BaselineError

    found: dict[tuple[str, str], dict[tuple[int, int], Counts]] = {}
    for name in sorted(record_names(folder)):
        record = load_baseline(folder / f"{name}.json")
        of = record.conditions
        stem = name.replace(f"-k{of.k}-depth{of.depth}", "")
        found.setdefault((stem, of.drafter), {})[of.k, of.depth] = record.as_counts()
    if not found:
        raise BaselineError(f"{folder} holds no baseline; name a folder that does, or create one with --specdec-update=new")
    return found


def _lines(title: str, counts: dict[tuple[int, int], Counts], advice: Advice) -> Iterator[str]:
    yield title
    yield _COLUMNS.format("k", "depth", "length", "round", "speed-up", "95 %", "marginal", "needs", "has")
    for depth, steps in advice.steps.items():
        for step in steps:
            cell = (step.k, depth)
            interval = "-" if step.interval is None else f"{step.interval[0]:.2f} to {step.interval[1]:.2f}"
            needs, has = (f"{own[cell]:.3f}" if cell in own else "-" for own in (advice.needs, advice.has))
            row = _COLUMNS.format(
                step.k, depth, f"{step.length:.3f}", f"{step.round_ms:.2f} ms", f"{step.speedup:.3f}x", interval,
                f"{step.marginal:.3f}", needs, has,
            )  # fmt: skip
            yield row + " best" * (cell == advice.best) + " (extrapolated times)" * step.extrapolated
    for name, ((k, depth), own, shared) in advice.categories.items():
        gain = f"{own:.3f}x, against {shared:.3f}x at the best of all"
        yield f"  {name}: best at k {k}, depth {depth}: {gain}"
