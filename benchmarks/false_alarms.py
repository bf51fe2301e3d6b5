"""Runs of the unchanged main job on a busy machine: any failure is a false alarm.

    python benchmarks/false_alarms.py [--runs 100] [--workers 0,2] [--busy 2] [--jobs 1] [--until 18:30]

Each run is a new process of pytest, for each number of xdist workers in turn (0 is none).
Words that are no options of this script are pytest's; without any it is the main job, `suites/`.
`--busy` processes compute beside the runs, of which `--jobs` run at once. Every run is kept in
`--kept`, a line of JSON with its commit, so that the runs of several days add up; figures of all
kept runs are printed after each. Failed runs end with their last lines. Exit status 1 where one
of this day's failed.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import scipy.stats

from pytest_specdec.baselines.commits import head_commit

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "benchmarks" / "results" / "unchanged.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="of each number of workers")
    parser.add_argument("--workers", default="0,2")
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--until", help="HH:MM, after which no run begins")
    parser.add_argument("--kept", type=Path, default=KEPT)
    asked, given = parser.parse_known_args()
    commit = (head_commit(ROOT) or "")[:7]
    wanted = [workers for _ in range(asked.runs) for workers in map(int, asked.workers.split(","))]

    def once(workers: int) -> bool:
        if asked.until and f"{datetime.datetime.now():%H:%M}" >= asked.until:
            return True
        started = time.perf_counter()
        ended = _session(workers, given)
        line = {
            "commit": commit,
            "workers": workers,
            "seconds": round(time.perf_counter() - started),
            "failed": ended.returncode != 0,
        }
        with asked.kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if ended.returncode:
            print(ended.stdout[-2000:], ended.stderr[-500:])
        print(f"{summary(asked.kept)}; this one in {line['seconds']} s", flush=True)
        return ended.returncode == 0

    with computing(asked.busy), ThreadPoolExecutor(asked.jobs) as pool:
        return 0 if all([*pool.map(once, wanted)]) else 1


def _session(workers: int, given: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--specdec-k=8", f"-n{workers}", *(given or ["suites/"])),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def summary(kept: Path) -> str:
    """How many of all kept runs failed, by the number of workers."""
    lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    parts = []
    for workers in sorted({line["workers"] for line in lines}):
        failed = [line["failed"] for line in lines if line["workers"] == workers]
        parts.append(
            f"-n {workers}: {sum(failed)} of {len(failed)} unchanged runs failed "
            f"({bound(sum(failed), len(failed))})"
        )
    return "; ".join(parts)


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
