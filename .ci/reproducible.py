"""Builds the wheel twice, in two copies of the sources: their hashes are equal. Prints the hash."""

# ruff: noqa: S603, S607
from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    date = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    hashes = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            copy = Path(name) / "sources"
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
            build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", name]
            subprocess.run(
                build,
                cwd=copy,
                check=True,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"SOURCE_DATE_EPOCH": date},
            )
            (wheel,) = Path(name).glob("*.whl")
            hashes.append(hashlib.sha256(wheel.read_bytes()).hexdigest())
            print(f"{hashes[-1]}  {wheel.name}", flush=True)
    print("the same" if hashes[0] == hashes[1] else "different")
    return 0 if hashes[0] == hashes[1] else 1


if __name__ == "__main__":
    sys.exit(main())
