"""Runs of the unchanged main job on a busy machine: any failure is a false alarm.

    python benchmarks/false_alarms.py [--runs 100] [--workers 0,2] [--busy 2] [--until 18:30]

Each run is a new process of pytest, once for each number of xdist workers in turn (0 is none).
Words that are no options of
this script are pytest's; without any it is the main job, `suites/`. `--busy` processes compute beside it. Figures are printed after each run, so that one that is stopped
has said how far it came; failed runs end with their last lines. Exit status 1 where one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import scipy.stats

ROOT = Path(__file__).parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="of each number of workers")
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--until", help="HH:MM, after which no run begins")
    asked, given = parser.parse_known_args()
    done, failed = Counter[int](), Counter[int]()
    with computing(asked.busy):
        for _ in range(asked.runs):
            for workers in map(int, asked.workers.split(",")):
                if asked.until and f"{datetime.datetime.now():%H:%M}" >= asked.until:
                    break
                start = time.perf_counter()
                command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
                ended = subprocess.run(
                    [*command, "--specdec-k=8", f"-n{workers}", *(given or ["suites/"])],
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                done[workers] += 1
                failed[workers] += ended.returncode != 0
                if ended.returncode:
                    print(ended.stdout[-2000:], ended.stderr[-500:])
                print(
                    f"-n {workers}: {failed[workers]} of {done[workers]} unchanged runs failed"
                    f" ({bound(failed[workers], done[workers])}), this one in"
                    f" {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
    return 1 if failed.total() else 0


def bound(failed: int, runs: int) -> str:
    """What the true rate may be at most, at 95 % confidence (Clopper and Pearson)."""
    most = scipy.stats.beta.ppf(0.95, failed + 1, runs - failed) if failed < runs else 1.0
    return f"at most {most:.1%} at 95 % confidence"


@contextlib.contextmanager
def computing(count: int) -> Iterator[None]:
    """While entered, so many processes compute."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: sum(range(10000))"])
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    sys.exit(main())
