"""What the installed plugin costs a project that does not use it: `pytest --collect-only` with and
without it.

    make bench

Both are run in turn. The promise, at most 20 ms more, is held to the fastest run of each: the rest
is the machine's noise, of which the median of the paired differences gives an idea.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROUNDS = 20
PROMISE_MS = 20


def collect_ms(folder: Path, *arguments: str) -> float:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        *arguments,
    ]
    begin = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (time.perf_counter() - begin) * 1e3


def test_startup_cost(tmp_path: Path, benchmark, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    with_us, without = [], []

    def both() -> None:
        with_us.append(collect_ms(tmp_path))
        without.append(collect_ms(tmp_path, "-p", "no:specdec"))

    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
    extra = min(with_us) - min(without)
    median = statistics.median(one - other for one, other in zip(with_us, without, strict=True))
    benchmark.extra_info.update(extra_ms=round(extra, 1), median_extra_ms=round(median, 1))
    with capsys.disabled():
        print(
            f"\npytest --collect-only: {min(without):.0f} ms without the plugin, {extra:+.1f} ms "
            f"with it (median {median:+.1f})"
        )
    assert extra <= PROMISE_MS
