"""What a session's swap test costs: 1,000 failing gates of 2,000 prompts.

    python benchmarks/session_speed.py
    python benchmarks/session_speed.py --gates 100 --prompts 500 --drop 0

prints the seconds of this process that judging took, and the peak of its memory: all of it, and
what judging took beyond the measured cases.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))  # records of the tests

from helpers.records import CONDITIONS, ENVIRONMENT, FINGERPRINTS
from simulation import Sides, judged_session

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.records.measured import MeasuredCase, MeasuredRun

K = 8


def measured_gates(gates: int, prompts: int, drop: float) -> list[Sides]:
    """Now and before of each gate: cells of a grid on the same texts."""
    rng = np.random.default_rng(0)
    keys = tuple(f"{row:016x}" for row in range(prompts))
    skill = rng.normal(1, 1, prompts)
    sides = [skill + rng.normal(0, 0.3, prompts) for _ in range(2)]
    texts = [{key: f"{side}-{key}" for key in keys} for side in range(2)]

    def measured(side: int) -> MeasuredCase:
        odds = sides[side] + rng.normal(0, 0.1, prompts)
        accept = (1 - drop * side) / (1 + np.exp(-odds[:, None] + 0.08 * np.arange(K)))
        rounds = np.full(prompts, 40.0)
        counts = Counts(
            keys,
            ("all",) * prompts,
            rounds,
            np.broadcast_to(rounds[:, None], accept.shape),
            rounds[:, None] * np.cumprod(accept, axis=1),
        )
        return MeasuredCase(
            definition="acceptance/1",
            conditions=CONDITIONS,
            fingerprints=FINGERPRINTS,
            environment=ENVIRONMENT,
            runs=(MeasuredRun(counts=counts, text_fingerprints=texts[side]),),
            seed=side,
        )

    return [(measured(1), measured(0)) for _ in range(gates)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gates", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--drop", type=float, default=0.05)
    parser.add_argument("--trace", action="store_true", help="trace memory, which takes time")
    asked = parser.parse_args()
    gates = measured_gates(asked.gates, asked.prompts, asked.drop)
    if asked.trace:
        tracemalloc.start()
    begin = time.process_time()
    outcomes = Counter(verdict.outcome for verdict in judged_session(gates))
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{asked.gates} gates of {asked.prompts} prompts: {dict(outcomes)}")
    print(f"{seconds:.1f} s, {peak:.0f} MB in all")
    if asked.trace:
        print(f"{tracemalloc.get_traced_memory()[1] / 2**20:.0f} MB for judging")


if __name__ == "__main__":
    main()
