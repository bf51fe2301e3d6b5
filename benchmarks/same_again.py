"""The same session again and again: its JSON report is the same to the byte, apart from timings.

    python benchmarks/same_again.py [--runs 20] [--workers 0,2] [PYTEST...]

Each run is a new process of pytest with a hash seed of its own. Words that are no options of this
script are pytest's; without any the gate of counts is run, without models. Reports are compared as text
after values of timings, dates and command lines are taken out. Exit status 1 where two differ.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMINGS = re.compile(
    r'^(\s*"(?:command|date|finished|started|\w*_ms|\w*_seconds|seconds|duration|workers?)":).*$',
    re.M,
)
COUNTS = """
import random

import pytest

@pytest.mark.parametrize("gate", range(6))
def test_counts(specdec_gate, gate):
    draws = random.Random(gate)
    rounds = {f"q{row}": [[3, draws.randrange(4)] for _ in range(20)] for row in range(24)}
    specdec_gate(f"gate-{gate}", margin=0.1).check(rounds=rounds)
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--workers", default="0,2")
    asked, given = parser.parse_known_args()
    found: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = ROOT if given else Path(name)
        if not given:
            (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
            (folder / "test_counts.py").write_text(COUNTS, encoding="utf-8")
            session(folder, Path(name) / "first.json", "0", ["--specdec-update=new"])
        for number in range(asked.runs):
            workers = asked.workers.split(",")
            which = workers[number % len(workers)]
            report = session(folder, Path(name) / f"{number}.json", which, given)
            digest = hashlib.sha256(TIMINGS.sub(r"\1", report).encode()).hexdigest()[:16]
            found[which, digest] += 1
            print(f"run {number + 1}, -n {which}: {digest}, {len(report):,} bytes", flush=True)
    digests = {digest for _, digest in found}
    print(f"{asked.runs} runs, {len(digests)} different reports")
    return 0 if len(digests) == 1 else 1


def session(folder: Path, report: Path, workers: str, given: list[str]) -> str:
    """The report of one session."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"-n{workers}"]
    ended = subprocess.run(
        [*command, f"--specdec-report={report}", *given],
        cwd=folder,
        env=os.environ | {"PYTHONHASHSEED": "random"},
        capture_output=True,
        text=True,
        check=False,
    )
    if not report.exists():
        raise SystemExit(ended.stdout[-2000:] + ended.stderr[-2000:])
    return report.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
