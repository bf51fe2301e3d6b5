"""What heads that run k steps on themselves cost on long texts: memory grows with k x length, time
with k and once with the square of the length.

make bench
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("long_texts.py")
LENGTHS, KS = (512, 1024, 2048), (4, 16)


@pytest.mark.parametrize("drafter", ["mtp", "eagle3"])
def test_memory_and_time_of_long_texts(
    benchmark, capsys: pytest.CaptureFixture[str], tmp_path: Path, drafter: str
) -> None:
    def measured() -> dict[tuple[int, int], tuple[float, float]]:
        costs = {}
        for length, k in itertools.product(LENGTHS, KS):
            folder = tmp_path / f"{length}-{k}"
            command = [sys.executable, str(SCRIPT), str(folder), drafter, str(length), str(k)]
            run = subprocess.run(command, check=True, capture_output=True, text=True)
            mib, seconds = map(float, run.stdout.split()[-2:])
            costs[length, k] = mib, seconds
        return costs

    costs = benchmark.pedantic(measured, rounds=1)
    with capsys.disabled():
        for (length, k), (mib, seconds) in costs.items():
            print(f"\n{drafter}, {length} tokens, k={k}: {mib:.0f} MiB, {seconds:.2f} s", end="")
        print()
    mask = max(KS) * max(LENGTHS) ** 2 * 4 / 2**20
    assert costs[2048, 16][0] < mask / 2, "a mask of k x length^2 numbers"
    assert costs[2048, 16][1] < 1.5 * 4 * costs[2048, 4][1]
    assert costs[2048, 16][1] < 1.5 * 4 * costs[1024, 16][1]
