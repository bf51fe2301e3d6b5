"""Readers fuzzed by coverage: atheris changes inputs until they reach other lines of the code.

    pip install atheris
    python benchmarks/fuzz_coverage.py [--seconds 60] [--only KIND]

The kinds of input, their originals and what is asked of readers are those of `fuzz_inputs.py`. Each
kind has a process and so many seconds of its own, and only this package's modules are watched. A line
for each: inputs, code that they reached (libFuzzer's count of features), faults. atheris needs
CPython up to 3.13 on Linux; it is not among the dependencies of tests. Exit status 1 where an input
shows a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LAST = re.compile(r"#(\d+)\s.*?cov: (\d+) ft: (\d+)")


def one(kind_name: str, seconds: int, folder: Path) -> None:
    """Fuzz one kind in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["pytest_specdec"]):
        from fuzz_inputs import Result, _tried, kinds, tiny_checkpoint

        kind = next(
            kind for kind in kinds(tiny_checkpoint(folder / "tiny")) if kind.name == kind_name
        )
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, original in enumerate(kind.originals):
        (corpus / str(number)).write_bytes(original)
    result, turn, found = Result(), itertools.count(), folder / "faults.jsonl"

    def read(raw: bytes) -> None:
        place = folder / str(next(turn))
        if fault := _tried(kind, raw, place, result):
            with found.open("a", encoding="utf-8") as file:
                file.write(json.dumps([fault, repr(raw[:300])]) + "\n")
        result.rejects.clear()
        shutil.rmtree(place)

    limits = [f"-max_total_time={seconds}", "-max_len=65536", "-rss_limit_mb=2048", "-timeout=30"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, "-print_final_stats=1"], read)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each kind")
    parser.add_argument("--only", action="append", help="a kind; may be given more than once")
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.folder is not None:
        with contextlib.suppress(SystemExit):
            one(asked.only[0], asked.seconds, asked.folder)
        return 0
    from fuzz_inputs import kinds, tiny_checkpoint

    faults, inputs = 0, 0
    print(f"{'kind':26}{'inputs':>9}{'lines':>7}{'features':>9}{'faults':>7}")
    with tempfile.TemporaryDirectory() as name:
        every = [kind.name for kind in kinds(tiny_checkpoint(Path(name) / "tiny"))]
        for number, kind in enumerate(asked.only or every):
            folder = Path(name) / str(number)
            folder.mkdir()
            command = [sys.executable, __file__, "--only", kind, "--in", str(folder)]
            ended = subprocess.run(
                [*command, f"--seconds={asked.seconds}"],
                capture_output=True,
                text=True,
                check=False,
                timeout=asked.seconds * 3 + 300,
            )
            seen = LAST.findall(ended.stderr)
            if not seen:
                print(ended.stderr[-2000:])
                return 1
            runs, lines, features = map(int, seen[-1])
            found = folder / "faults.jsonl"
            rows = found.read_text(encoding="utf-8").splitlines() if found.exists() else []
            if "ERROR: libFuzzer" in ended.stderr:
                rows.append(ended.stderr[ended.stderr.index("ERROR: libFuzzer") :][:300])
            print(f"{kind:26}{runs:9}{lines:7}{features:9}{len(rows):7}", flush=True)
            print(*(row[:400] for row in rows[:5]), sep="\n", end="\n" if rows else "")
            faults, inputs = faults + len(rows), inputs + runs
    print(f"{inputs} inputs, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
