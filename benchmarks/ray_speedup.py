"""Replay by one and by two Ray actors of one thread each, on this machine: how much faster two are.

    .venv-engines/ray/bin/python benchmarks/ray_speedup.py [--into docs/scale.md]   # two idle cores, 3 minutes

The work is the embedded text pair's at its largest k and depth, each batch as often as `--passes` says.
The whole run begins before Ray does and has the actors' start in it, where each loads torch and models of
its own. The steady rate is that of the batches after the first fifth.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray
from marked_page import marks_of, write_lines

from pytest_specdec.baselines.store import BaselineStore
from pytest_specdec.cases.case import Case, TextKey
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.engines.part_files import encoded
from pytest_specdec.engines.ray_actors import RayExecutor

ROOT = Path(__file__).parent.parent
MODELS = ROOT / "suites" / "models"
MARK = "ray_speedup.py"
TEXTS = TextKey(
    "text", str(MODELS / "text-target"), ROOT / "suites/text/prompts.jsonl", None, 128, 1.0, 0
)
CASE = Case(
    texts=TEXTS,
    drafter=DraftModelSpec(str(MODELS / "text-draft")),
    label="text-draft",
    k=16,
    depth=3,
    rule="rejection",
    margin=0.01,
)


def measured(actors: int, passes: int) -> dict[str, Any]:
    """Seconds of the whole run, texts per second in its steady part, and a digest of the results, by so
    many actors on a cluster of its own.
    """
    engine = ReplayEngine(
        [CASE], ModelPool("cpu"), stored_texts=BaselineStore(ROOT / "baselines").texts
    )
    work = engine._begun(TEXTS).work()
    batches = len(work.plan.batches)
    work = dataclasses.replace(
        work, plan=dataclasses.replace(work.plan, batches=work.plan.batches * passes)
    )
    begun, cpu = time.perf_counter(), time.process_time()
    ray.init(num_cpus=actors, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    models = functools.partial(ModelPool, "cpu")
    executor = RayExecutor(models(), models, "local")
    came: list[tuple[float, int]] = []
    first: dict[int, bytes] = {}
    for unit, result in executor.results(work):
        came.append((time.perf_counter(), work.sizes[unit]))
        if unit < batches:
            first[unit] = encoded(result)
    assert len(executor._actors) == actors
    whole = came[-1][0] - begun
    executor.close()
    ray.shutdown()
    start = len(came) // 5
    texts = sum(size for _, size in came[start + 1 :])
    return {
        "texts": sum(work.sizes),
        "batches": len(came),
        "whole": whole,
        "session": time.process_time() - cpu,
        "steady": texts / (came[-1][0] - came[start][0]),
        "digest": hashlib.sha256(b"".join(first[unit] for unit in sorted(first))).hexdigest(),
    }


def in_a_process(actors: int, passes: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--passes", str(passes), "--actors", str(actors)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--passes", type=int, default=100)
    parser.add_argument("--actors", type=int, help="measure these alone, as JSON")
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    if options.actors:
        print(json.dumps(measured(options.actors, options.passes)))
        return
    one, two = (in_a_process(actors, options.passes) for actors in (1, 2))
    assert one["digest"] == two["digest"]
    lines = [
        f"{one['texts']:,} texts in {one['batches']} batches; results equal to the last bit.",
        "",
        "| | one actor | two actors | ratio |",
        "|---|---|---|---|",
        f"| steady, texts per second | {one['steady']:.1f} | {two['steady']:.1f} "
        f"| {two['steady'] / one['steady']:.2f} |",
        f"| whole run, s | {one['whole']:.1f} | {two['whole']:.1f} | {one['whole'] / two['whole']:.2f} |",
        f"| of the session itself, CPU s | {one['session']:.1f} | {two['session']:.1f} | |",
    ]
    print("\n".join(lines))
    if options.into:
        write_lines(options.into, marks_of(MARK), "\n".join(lines))


if __name__ == "__main__":
    main()
