"""Install wheels or sdists, each in a clean environment, and run a new user's first gate there:

    python benchmarks/install_check.py dist/*.whl dist/*.tar.gz

Any Python runs it: with 3.12 or 3.13 it checks that one. The suite comes from `quickstart` and the
models from this repository; the second run has to pass and the run with a worse draft to fail.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "suites" / "models"


def main(packages: list[str]) -> int:
    for package in packages:
        with tempfile.TemporaryDirectory() as folder:
            _check(Path(package).resolve(), Path(folder))
    return 0


def _check(package: Path, folder: Path) -> None:
    started = time.monotonic()
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    project = folder / "project"
    project.mkdir()

    def run(*arguments: str, status: int = 0) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done = subprocess.run(
            [python, *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != status:
            sys.exit(f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    pins = ("-c", str(ROOT / "constraints.txt"))
    run("-m", "pip", "install", "--quiet", *pins, f"pytest-specdec[models] @ {package.as_uri()}")
    version = run("-c", "import pytest_specdec; print(pytest_specdec.__version__)").strip()
    pair = ("--target", str(MODELS / "text-target"), "--draft", str(MODELS / "text-draft"))
    run("-m", "pytest_specdec", "quickstart", *pair, "--k=4", "--new-tokens=64")
    run("-m", "pytest", "suites", "--specdec-update=new")
    run("-m", "pytest", "suites")
    run(str(ROOT / "benchmarks" / "add_noise.py"), str(MODELS / "text-draft"), "worse")
    said = run("-m", "pytest", "suites", "--specdec-draft=worse", status=1)
    if "regressed" not in said:
        sys.exit(f"the worse draft is not named:\n{said}")
    took = time.monotonic() - started
    number = ".".join(map(str, sys.version_info[:3]))
    print(
        f"{package.name}: version {version}, Python {number}, first failing gate after {took:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
