"""Cost profiles of SmolLM2 and its EAGLE-3 head at three batch sizes, in CPU time.

    python suites/smollm2/build.py eagle3
    python benchmarks/batch_costs.py run                # benchmarks/results/batch-1.json, -4, -16
    python -m pytest_specdec speedup baselines/smollm2 --costs benchmarks/results/batch-1.json
    python benchmarks/batch_costs.py page               # the table of docs/axes.md

`python -m pytest_specdec costs` measures wall-clock time, for which a machine must be quiet. Here one
thread counts its own CPU time, and all batch sizes and k take turns, so that a slow moment meets all:
what is compared are ratios between them. float32, temperature 1, a context of 64 tokens.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from marked_page import marks_of, write_lines

from pytest_specdec import load_baseline
from pytest_specdec.cases.drafter import EAGLE3, RegisteredSpec
from pytest_specdec.decoding.batch import Batch, BatchRow
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.timing import Setting, emitted_starts
from pytest_specdec.speedup.advice import advise
from pytest_specdec.speedup.cost_profile import CostProfile

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "suites" / "smollm2" / "models"
RESULTS = Path(__file__).parent / "results"
PAGE, MARKED = ROOT / "docs" / "axes.md", marks_of("batch_costs.py")
BATCHES, KS, CONTEXT = (1, 4, 16), (0, 1, 2, 4), 64
TURNS, ROUNDS = 12, 2


def run() -> None:
    torch.set_num_threads(1)
    target = load_model(str(MODELS / "target"), "cpu")
    head = RegisteredSpec(EAGLE3, MODELS / "eagle3")
    decoders: dict[tuple[int, int], Batch] = {}
    for size in BATCHES:
        setting = Setting(size, CONTEXT)
        starts = emitted_starts(target, setting)
        for k in KS:
            plan = setting.plan(target, head if k else None, k, 0)
            room = CONTEXT + (TURNS * ROUNDS + 3) * (k + 1)
            decoders[size, k] = Batch(plan, [BatchRow([*start], room) for start in starts])
    spent: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for turn in range(TURNS + 1):
        for track, batch in decoders.items():
            for _ in range(ROUNDS):
                begun = time.process_time()
                batch.draft()
                drafted = time.process_time()
                batch.verify()
                ended = time.process_time()
                if turn:  # the first reads the context
                    spent[track].append((1e3 * (drafted - begun), 1e3 * (ended - drafted)))
        print(f"{turn} of {TURNS}", file=sys.stderr, flush=True)
    for size in BATCHES:
        profile = profile_of({k: spent[size, k] for k in KS}, Setting(size, CONTEXT), target)
        (RESULTS / f"batch-{size}.json").write_text(profile.to_json(), encoding="utf-8")


def profile_of(
    spent: dict[int, list[tuple[float, float]]], setting: Setting, target
) -> CostProfile:  # type: ignore[no-untyped-def]
    """Medians, and the standard error of the median ratio to plain decoding's step."""
    plain = [verify for _, verify in spent[0]]
    errors, spreads = [], []
    for k, times in spent.items():
        rounds = [draft + verify for draft, verify in times]
        spreads.append(statistics.stdev(rounds) / statistics.fmean(rounds))
        if k:
            ratios = [math.log(one / other) for one, other in zip(rounds, plain, strict=True)]
            errors.append(1.2533 * statistics.stdev(ratios) / math.sqrt(len(ratios)))
    drafts = {k: statistics.median(draft for draft, _ in times) for k, times in spent.items() if k}
    return CostProfile(
        verify={k: statistics.median(at for _, at in times) for k, times in spent.items() if k},
        draft={},
        target_ms=statistics.median(plain),
        drafters={EAGLE3: {0: drafts}},
        machine=f"{setting.machine(target)}, CPU time",
        software=setting.software(target),
        batch_size=setting.batch_size,
        spread=round(max(spreads), 4),
        error=round(math.sqrt(statistics.fmean(error**2 for error in errors)), 4),
        samples=len(plain),
    )


def page() -> None:
    """Speed-ups of the stored baselines at each batch size, with intervals of prompts and times."""
    lines = [
        "| temperature | batch | k = 1 | k = 2 | k = 4 | best k |",
        "|---|---|---|---|---|---|",
    ]
    for temperature in ("0", "1"):
        counts = {
            (k, 0): load_baseline(
                ROOT / "baselines" / "smollm2" / f"eagle3-k{k}-depth0-t{temperature}.json"
            ).as_counts()
            for k in KS
            if k
        }
        for size in BATCHES:
            costs = CostProfile.load(RESULTS / f"batch-{size}.json")
            advice = advise(counts, costs, drafter=EAGLE3)
            cells = []
            for step in advice.steps[0]:
                assert step.interval is not None
                low, high = step.interval
                cells.append(f"{step.speedup:.2f} ({low:.2f} to {high:.2f})")
            best = max(advice.steps[0], key=lambda step: step.speedup)
            shown = str(best.k) if best.speedup > 1 else "none: plain decoding"
            if best.interval is not None and best.interval[0] <= 1 < best.speedup:
                shown += ", undecided"
            lines.append(f"| {temperature} | {size} | {' | '.join(cells)} | {shown} |")
    write_lines(PAGE, MARKED, "\n".join(lines))


if __name__ == "__main__":
    {"run": run, "page": page}[sys.argv[1]]()
