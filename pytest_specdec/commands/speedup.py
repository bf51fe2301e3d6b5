"""`speedup`: speed-ups of stored baselines under cost profiles. Needs neither models nor torch."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..report.layout import aligned, wrapped

if TYPE_CHECKING:
    from ..acceptance.counts import Counts
    from ..cases.tree import Tree
    from ..speedup.advice import Advice, Cell
    from ..speedup.cost_profile import CostProfile
    from ..speedup.table import Step

_HEADERS = ("k", "depth", "length", "ms", "speed-up", "95 %", "gain", "needs", "has", "")
_OTHER_STARTS = (
    "note: some of these baselines do not hold the passes of whole requests, so length is the "
    "acceptance length, which counts only rounds with room for k drafts: a larger k looks better "
    "than it is; record them again with --specdec-update=all"
)
_NOTE = (
    "length = tokens per pass of the target, over whole texts; ms = of a round, ~ where "
    "extrapolated; gain = speed-up over that "
    "of the k before; needs = the conditional acceptance of the next token at which drafting it "
    "breaks even, never: it would not pay even if it were always accepted; has = the measured "
    "acceptance of the next token"
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "baselines", type=Path, metavar="FOLDER", help="a folder of stored baselines"
    )
    parser.add_argument(
        "--costs",
        type=Path,
        required=True,
        action="append",
        metavar="FILE",
        help="cost profile; may be given more than once",
    )


def run(arguments: argparse.Namespace) -> int:
    from ..common.errors import CostError
    from ..common.printable import printable
    from ..speedup.advice import advise
    from ..speedup.cost_profile import CostProfile

    profiles = {path: CostProfile.load(path).with_target(path) for path in arguments.costs}
    groups = _groups(arguments.baselines)
    drafters = {drafter for _, drafter in (*groups, *_trees(arguments.baselines))}
    if not any(costs.knows(drafter) for costs in profiles.values() for drafter in drafters):
        named = ", ".join(sorted(drafters))
        raise CostError(
            f"no cost profile has times of what drafts in {arguments.baselines} ({named}); measure "
            "one with: python -m pytest_specdec costs"
        )
    for (name, drafter), counts in groups.items():
        for path, costs in profiles.items():
            if not costs.knows(drafter):
                print(printable(f"{name}: no times of {drafter} in {path}"))
                continue
            covering = costs.extended(k for k, _ in counts)
            advice = advise(counts, covering, drafter=drafter)
            lines = _lines(f"{name}, costs of {path} (batch {costs.batch_size})", advice)
            print("\n".join(map(printable, lines)))
    for (name, drafter), trees in _trees(arguments.baselines).items():
        for path, costs in profiles.items():
            if costs.knows(drafter):
                lines = _tree_lines(name, drafter, trees, path, costs)
                print("\n".join(map(printable, lines)))
    print("\n".join(wrapped(_NOTE)))
    return 0


def _groups(folder: Path) -> dict[tuple[str, str], dict[tuple[int, int], Counts]]:
    """Counts by k and depth, for each name without these and its kind of drafter."""
    from ..baselines.diff import record_names
    from ..baselines.store import load_baseline
    from ..common.errors import BaselineError

    groups: dict[tuple[str, str], dict[tuple[int, int], Counts]] = {}
    for name in sorted(record_names(folder)):
        record = load_baseline(folder / f"{name}.json")
        of = record.conditions
        # Counts that a test handed over have no pair, and so no costs; trees have their own lines.
        if of.depth is None or of.tree is not None:
            continue
        stem = name.replace(f"-k{of.k}-depth{of.depth}", "")
        groups.setdefault((stem, of.drafter), {})[of.k, of.depth] = record.as_counts()
    if not groups and not _trees(folder):
        raise BaselineError(
            f"{folder} holds no baseline of a pair of models; name a folder that does, or create "
            "one with --specdec-update=new"
        )
    return groups


def _trees(folder: Path) -> dict[tuple[str, str], dict[Tree, Counts]]:
    """Counts by tree, for each name without it and its kind of drafter."""
    from ..baselines.diff import record_names
    from ..baselines.store import load_baseline
    from ..cases.tree import tree_of

    trees: dict[tuple[str, str], dict[Tree, Counts]] = {}
    for name in sorted(record_names(folder)):
        record = load_baseline(folder / f"{name}.json")
        of = record.conditions
        if of.tree is not None:
            tree = tree_of(of.tree)
            stem = name.replace(f"-k{of.k}-depth{of.depth}", "").replace(f"-{tree.name}", "")
            trees.setdefault((stem, of.drafter), {})[tree] = record.as_counts()
    return trees


def _tree_lines(
    name: str, drafter: str, trees: Mapping[Tree, Counts], path: Path, costs: CostProfile
) -> Iterator[str]:
    from ..speedup.tree_costs import TreeCosts

    known = TreeCosts.of(costs, drafter)
    yield f"{name}, trees of drafts, costs of {path} (batch {costs.batch_size})"
    rows = []
    for tree, counts in trees.items():
        length = counts.acceptance_length
        speedup = known.speedup(length, tree)
        rows.append((speedup, tree.name, tree.nodes, tree.depth, length, known.round_ms(tree)))
    most = max(row[0] for row in rows)
    cells = [
        (
            named,
            str(nodes),
            str(depth),
            f"{length:.3f}",
            f"~{ms:.2f}",
            f"{speedup:.3f}x",
            "best" * (speedup == most and most > 1),
        )
        for speedup, named, nodes, depth, length, ms in rows
    ]
    headers = ("tree", "nodes", "depth", "length", "ms", "speed-up", "")
    yield from (f"  {line}" for line in aligned([headers, *cells], left=(0, 6)))


def _lines(title: str, advice: Advice) -> Iterator[str]:
    yield title
    if not advice.whole_requests:
        yield from wrapped(f"  {_OTHER_STARTS}", indent="  ")
    cells = [_cells(step, depth, advice) for depth, steps in advice.steps.items() for step in steps]
    yield from (f"  {line}" for line in aligned([_HEADERS, *cells], left=(len(_HEADERS) - 1,)))
    if conclusion := _conclusion(advice):
        yield from wrapped(f"  {conclusion}", indent="    ")
    for name, (cell, best_speedup, shared) in advice.categories.items():
        if best_speedup > 1:
            summary = (
                f"best at k {cell[0]}, depth {cell[1]}: {best_speedup:.3f}x, "
                f"against {shared:.3f}x at the best of all"
            )
        else:
            summary = f"do not draft; its best is {_cell_speedup(cell, {cell: best_speedup})}"
        yield from wrapped(f"  {name}: {summary}", indent="    ")


def _conclusion(advice: Advice) -> str:
    """Whether to draft at all; nothing where the best cell is faster than plain decoding beyond
    doubt.
    """
    best = _cell_speedup(advice.best, advice.speedups)
    low, high = advice.interval or (advice.speedups[advice.best],) * 2
    if high <= 1:
        return f"do not draft: no cell beats plain decoding; the best is {best}"
    if low <= 1:
        return (
            f"undecided: the best, {best}, is within the error of plain decoding (95 % {low:.2f} "
            f"to {high:.2f}); "
            "time the costs again with more --repeats"
        )
    return ""


def _cell_speedup(cell: Cell, speedups: Mapping[Cell, float]) -> str:
    return f"k {cell[0]}, depth {cell[1]}: {speedups[cell]:.3f}x"


def _cells(step: Step, depth: int, advice: Advice) -> tuple[str, ...]:
    """A word for each header."""
    cell = (step.k, depth)
    needs = advice.break_even.get(cell)
    return (
        str(step.k),
        str(depth),
        f"{step.length:.3f}",
        f"{'~' * step.extrapolated}{step.round_ms:.2f}",
        f"{step.speedup:.3f}x",
        "-" if step.interval is None else f"{step.interval[0]:.2f} to {step.interval[1]:.2f}",
        f"{step.marginal:.3f}",
        "-" if needs is None else f"{needs:.3f}" if needs <= 1 else "never",
        f"{advice.next_acceptance[cell]:.3f}" if cell in advice.next_acceptance else "-",
        "best" * (cell == advice.best and advice.drafting_pays),
    )
