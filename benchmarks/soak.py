"""Hours of measuring in one process: does memory stay flat, and are files closed?

    python benchmarks/soak.py [--sessions 960] [--measurements 1] [--warm-up 60] [--no-html]
    python benchmarks/soak.py --charts 1500

A session every 30 seconds is 960 in eight hours; here they run without a pause. Each one is pytest in
this process on a project with a tiny pair: gates on models by replay and one on counts, against stored
baselines, with JSON and HTML reports. Between two sessions the pair is loaded anew and measured as by a
script: decode, replay, conformance of the texts, at temperature 0 and 1 in turn.

Looked at after each session: resident memory, what the C allocator holds in use, blocks of Python's
allocator (also those of strings and numbers, which no garbage collector knows), objects made since the
warm-up, and open files. What runs before that, the warm-up, is not counted: charts are drawn by a
JavaScript engine inside vl-convert, whose heap grows over some 600 charts and then stays. safetensors 0.8
loses two blocks of some 30 bytes with each tensor that it reads: how many is measured first, and they
are taken off the growth of blocks. Objects of the warm-up are left out of garbage searches, which takes most of the time otherwise.

A table, and the growth a session after the first third, with its 95 % interval, are printed; exit status
1 where a session fails, open files grow, or what is looked at grows in eight hours by more than LIMITS
allow, at its interval's lower end.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
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
from safetensors import safe_open
from scipy import stats

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from helpers.support import add_noise, llama  # noqa: E402

from pytest_specdec import decode, load_model, replay  # noqa: E402
from pytest_specdec.lossless import conformance  # noqa: E402

HOURS, EVERY = 8, 30
"""Simulated hours, and seconds from session to session."""
LIMITS = {"resident MiB": 64.0, "allocated MiB": 16.0, "blocks": 1e5, "objects": 1e4}
"""By how much each may have grown after eight hours."""
PROMPTS = [f"{first} {second}" for first in ("the", "a dog", "see", "why") for second in "abcd"]
NEW_TOKENS = 12
SUITE = """
import random

import pytest

PAIR = {"target": "../target", "drafter": "../draft", "k": [2, 3], "depth": 0, "new_tokens": 12}

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
    options = {"temperature": float(number % 2)}
    decoded = decode(target, draft, PROMPTS, k=3, new_tokens=NEW_TOKENS, seed=number, **options)
    replay(target, draft, decoded.texts, k=3, **options)
    conformance(target, decoded.texts, **options)


class _Mallinfo2(ctypes.Structure):
    """Of glibc, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def allocated() -> float:
    """MiB that the C allocator holds in use; 0 where it does not say."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (AttributeError, TypeError, OSError):
        return 0.0
    ask.restype = _Mallinfo2
    said = ask()
    return float(said.uordblks + said.hblkhd) / 2**20


def resident() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def lost_blocks(folder: Path, repeats: int = 20) -> float:
    """Blocks of Python's allocator that safetensors loses when it reads the pair's weights."""

    def read() -> int:
        for name in ("target", "draft"):
            with safe_open(folder / name / "model.safetensors", "pt") as weights:
                for tensor in weights.keys():  # noqa: SIM118 - no iterable itself
                    weights.get_tensor(tensor)
        gc.collect()
        return sys.getallocatedblocks()

    before = read()
    return (max(read() for _ in range(repeats)) - before) / repeats


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
    error = float(np.nan_to_num(fit.stderr))  # nan of values that are all alike
    reach = float(stats.t.ppf(0.975, blocks - 2)) * error if blocks > 2 else np.inf
    return float(fit.slope), float(fit.slope) - reach, float(fit.slope) + reach


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=HOURS * 3600 // EVERY)
    parser.add_argument("--measurements", type=int, default=1, help="between two sessions")
    parser.add_argument("--warm-up", type=int, default=60, help="sessions that are not counted")
    parser.add_argument("--no-html", action="store_true", help="no HTML reports, hence no charts")
    parser.add_argument("--charts", type=int, help="draw one chart so many times, and no more")
    asked = parser.parse_args()
    if asked.charts:
        return draw(asked.charts)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = project(Path(name))
        status, said = session(folder, "--specdec-update=new")
        if status:
            print(said[-3000:])
            return 1
        lost = (1 + asked.measurements) * lost_blocks(folder)
        seen, faults = soaked(folder, asked)
    faults += judged(seen, lost)
    print(
        f"{asked.sessions} sessions, {asked.sessions * asked.measurements} measurements, ", end=""
    )
    print(f"{len(faults)} faults", *faults[:10], sep="\n")
    return 1 if faults else 0


def draw(times: int) -> int:
    """One chart, again and again: what vl-convert's own engine keeps."""
    import vl_convert

    axes = {name: {"field": name, "type": "quantitative"} for name in "xy"}
    chart = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"values": [{"x": place, "y": place * place % 7} for place in range(9)]},
        "mark": "line",
        "encoding": axes,
    }
    print("| charts | resident MiB |\n|---|---|")
    for number in range(1, times + 1):
        vl_convert.vegalite_to_svg(chart, allowed_base_urls=[])
        if number in (1, times) or number % 100 == 0:
            print(f"| {number} | {resident():.1f} |", flush=True)
    return 0


def soaked(folder: Path, asked: argparse.Namespace) -> tuple[dict[str, list[float]], list[str]]:
    """What is looked at, after each session; and the sessions that failed."""
    options = ["--specdec-report=r.json", *(() if asked.no_html else ("--specdec-report=r.html",))]
    seen, faults = {name: list[float]() for name in (*LIMITS, "open files")}, list[str]()
    start = time.process_time()
    print(f"| session | CPU minutes | {' | '.join(seen)} |\n|{'---|' * (2 + len(seen))}")
    for number in range(-asked.warm_up, asked.sessions):
        status, said = session(folder, *options)
        if status:
            faults.append(f"session {number}: exit status {status}: {said[-400:]}")
        for repeat in range(asked.measurements):
            measurement(folder, (number + asked.warm_up) * asked.measurements + repeat)
        gc.collect()
        if number in (-asked.warm_up, -1):
            gc.freeze()
        now = (resident(), allocated(), sys.getallocatedblocks(), len(gc.get_objects()))
        row = dict(zip(seen, (*now, open_files()), strict=True))
        if number >= 0:
            for name, value in row.items():
                seen[name].append(value)
        if number % max(asked.sessions // 12, 1) == 0 or number == asked.sessions - 1:
            line = " | ".join(
                f"{value:,.1f}" if "MiB" in name else f"{value:,.0f}" for name, value in row.items()
            )
            minutes = (time.process_time() - start) / 60
            print(f"| {number + 1} | {minutes:.1f} | {line} |", flush=True)
    return seen, faults


def judged(seen: dict[str, list[float]], lost: float) -> list[str]:
    """What grows, without `lost` blocks a session; each growth is printed."""
    faults, sessions = list[str](), HOURS * 3600 // EVERY
    print(f"\n| growth | a session | 95 % interval | in {HOURS} hours |\n|---|---|---|---|")
    for name, limit in LIMITS.items():
        slope, low, high = growth(seen[name])
        unit, scale = ("KiB", 1024) if "MiB" in name else ("", 1)
        spread = f"{low * scale:+.2f} to {high * scale:+.2f}"
        whole = f"{slope * sessions:+,.1f}"
        print(f"| {name} | {slope * scale:+.2f} {unit} | {spread} | {whole} |")
        least = (low - (lost if name == "blocks" else 0)) * sessions
        if least > limit:
            faults.append(f"{name} grow: {least:,.1f} in {HOURS} hours at least")
    print(f"\nblocks that safetensors loses: {lost:.1f} a session")
    files = seen["open files"]
    print(f"open files: {min(files):.0f} to {max(files):.0f}, the last {files[-1]:.0f}")
    if files[-1] > files[len(files) // 3]:
        faults.append("open files grow")
    return faults


if __name__ == "__main__":
    sys.exit(main())
