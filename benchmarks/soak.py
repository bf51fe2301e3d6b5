"""Hours of measuring in one process: does memory stay flat, and are files closed?

    python benchmarks/soak.py [--sessions 960] [--measurements 3]

A session every 30 seconds is 960 in eight hours; here they run without a pause. Each one is pytest in
this process on a project with a tiny pair: gates on models by replay and one on counts, against stored baselines, with JSON and HTML reports. Between two sessions the pair is loaded anew and
measured as by a script: decode, replay, conformance of the texts. Resident memory, Python objects and
open files are looked at after each session. A table, and the growth a session after the first third,
with its 95 % interval, are printed; exit status 1 where a session fails,
open files grow, or memory grows by more than 64 MiB in eight hours, its interval's lower end.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.support import add_noise, llama  # noqa: E402

from pytest_specdec import decode, load_model, replay  # noqa: E402
from pytest_specdec.lossless import conformance  # noqa: E402

HOURS, EVERY = 8, 30
"""Simulated hours, and seconds from session to session."""
MOST = 64.0
"""MiB by which memory may have grown after eight hours."""
PROMPTS = [f"{first} {second}" for first in ("the", "a dog", "see", "why") for second in "abcdef"]
SUITE = """
import random

import pytest

PAIR = {"target": "../target", "drafter": "../draft", "k": [2, 3], "depth": 0, "new_tokens": 24}

@pytest.mark.specdec(temperature=0, **PAIR)
def test_greedy(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

@pytest.mark.specdec(temperature=1, **PAIR)
def test_sampled(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline

def test_counts(specdec_gate):
    draws = random.Random(0)
    rounds = {f"q{row}": [[3, draws.randrange(4)] for _ in range(20)] for row in range(24)}
    specdec_gate("counts", margin=0.1).check(rounds=rounds)
"""


def project(folder: Path) -> Path:
    """A project with a tiny pair and its stored baselines."""
    llama(folder / "target", seed=1, mtp_layers=0)
    add_noise(folder / "target", folder / "draft", 0.15)
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    suite = folder / "suite"
    suite.mkdir()
    rows = [json.dumps({"prompt": text, "category": "all"}) for text in PROMPTS]
    (suite / "prompts.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (suite / "test_soak.py").write_text(SUITE, encoding="utf-8")
    return folder


def session(folder: Path, *options: str) -> tuple[int, str]:
    """Exit status and output of one session in this process."""
    said = io.StringIO()
    before = dict(os.environ)
    arguments = ["-q", "-p", "no:cacheprovider", "--specdec-device=cpu", *options, "suite"]
    quiet = contextlib.redirect_stdout(said), contextlib.redirect_stderr(said)
    with contextlib.chdir(folder), quiet[0], quiet[1]:
        status = int(pytest.main(arguments))
    os.environ.clear()
    os.environ.update(before)
    return status, said.getvalue()


def measurement(folder: Path, number: int) -> None:
    """What a script measures, with models of its own."""
    target = load_model(str(folder / "target"), "cpu")
    draft = load_model(str(folder / "draft"), "cpu")
    for temperature in (0.0, 1.0):
        options = {"temperature": temperature}
        decoded = decode(target, draft, PROMPTS, k=3, new_tokens=24, seed=number, **options)
        replay(target, draft, decoded.texts, k=3, **options)
        conformance(target, decoded.texts, **options)


def resident() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def growth(values: Sequence[float]) -> tuple[float, float, float]:
    """Per session after the first third, and its 95 % interval, from means of 20 blocks: values
    near each other in time are alike.
    """
    late = np.array(values[len(values) // 3 :], dtype=float)
    blocks = min(20, len(late))
    means = np.array([part.mean() for part in np.array_split(late, blocks)])
    at = np.array([part.mean() for part in np.array_split(np.arange(len(late)), blocks)])
    fit = stats.linregress(at, means)
    reach = float(stats.t.ppf(0.975, blocks - 2) * fit.stderr) if blocks > 2 else np.inf
    return float(fit.slope), float(fit.slope) - reach, float(fit.slope) + reach


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=HOURS * 3600 // EVERY)
    parser.add_argument("--measurements", type=int, default=3, help="between two sessions")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    memory, files, objects, faults = list[float](), list[int](), list[int](), list[str]()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name))
        status, said = session(folder, "--specdec-update=new")
        if status:
            print(said[-3000:])
            return 1
        options = ("--specdec-report=r.json", "--specdec-report=r.html")
        print("| session | minutes | MiB | objects | open files |\n|---|---|---|---|---|")
        for number in range(asked.sessions):
            status, said = session(folder, *options)
            if status:
                faults.append(f"session {number}: exit status {status}: {said[-400:]}")
            for repeat in range(asked.measurements):
                measurement(folder, number * asked.measurements + repeat)
            gc.collect()
            memory.append(resident())
            files.append(open_files())
            objects.append(len(gc.get_objects()))
            if number % max(asked.sessions // 12, 1) == 0 or number == asked.sessions - 1:
                minutes = (time.monotonic() - start) / 60
                line = f"{number + 1} | {minutes:.1f} | {memory[-1]:.0f} | {objects[-1]:,}"
                print(f"| {line} | {files[-1]} |", flush=True)
    hours = HOURS * 3600 / EVERY
    slope, low, high = (value * 1024 for value in growth(memory))
    print(f"\nmemory: {slope:+.2f} KiB a session ({low:+.2f} to {high:+.2f}), ", end="")
    print(f"{slope * hours / 1024:+.1f} MiB in {HOURS} hours of {hours:.0f} sessions")
    slope, *interval = growth(objects)
    print(f"objects: {slope:+.1f} a session ({interval[0]:+.1f} to {interval[1]:+.1f})")
    print(f"open files: {min(files)} to {max(files)}, the last {files[-1]}")
    if low * hours / 1024 > MOST:
        faults.append("memory grows")
    if files[-1] > files[len(files) // 3]:
        faults.append("open files grow")
    print(f"{len(memory)} sessions, {len(memory) * asked.measurements} measurements, ", end="")
    print(f"{len(faults)} faults", *faults[:10], sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
