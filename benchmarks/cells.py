"""Memory of a session's cells above the models: 2,000 prompts at 16 cells of k and depth, on a tiny random
pair: what is held depends on texts and cells alone.

    OMP_NUM_THREADS=1 python benchmarks/cells.py
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from helpers.support import llama

from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.judging.comparison import Run

PROMPTS, NEW = 2000, 128


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        target, draft = (
            llama(root / name, seed=seed, mtp_layers=3, context=256)
            for seed, name in enumerate(("target", "draft"))
        )
        prompts = root / "prompts.jsonl"
        letters = ["".join(chr(97 + (n // 26**at) % 26) for at in range(6)) for n in range(PROMPTS)]
        prompts.write_text(
            "".join(json.dumps({"category": "letters", "prompt": word}) + "\n" for word in letters)
        )
        key = TextKey("cells", str(target), prompts, None, NEW, 1.0, 0)
        base = Case(
            texts=key,
            drafter=DraftModelSpec(str(draft)),
            label="draft",
            k=4,
            depth=0,
            rule="rejection",
            margin=0.01,
        )
        cells = [
            dataclasses.replace(base, k=k, depth=depth)
            for k in (4, 8, 12, 16)
            for depth in range(4)
        ]
        pool = ModelPool("cpu")
        pool.model(str(target))
        pool.load_drafter(cells[-1])
        engine = ReplayEngine(cells, pool)
        sampled = len(engine.emitted(cells[0]))  # 128 steps of the target, outside the measurement
        before, begun = resident(), time.process_time()
        runs = [Run(cell, [engine.measure(cell)], engine="replay") for cell in cells]
        held = resident() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        print(
            f"{sampled:,} prompts x {len(runs)} cells: {held / 2**20:.0f} MiB held and "
            f"{peak / 2**20:.0f} MiB at most above the models, {time.process_time() - begun:.0f} CPU s"
        )


if __name__ == "__main__":
    main()
