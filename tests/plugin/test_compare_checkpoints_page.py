"""docs/compare-checkpoints.md: its commands run, and give the output that it shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.support import ROOT

PAGE = (ROOT / "docs" / "compare-checkpoints.md").read_text(encoding="utf-8")
FIRST, TRIED = re.findall(r"```console\n(.*?)```", PAGE, re.S)
(OUTPUT,) = re.findall(r"```text\n(.*?)\n```", PAGE, re.S)


def run(command: str, folder: Path) -> str:
    """A command of the page with its files below `folder`, and Python as it is here."""
    program, *arguments = shlex.split(command.replace("/tmp/run", str(folder / "run")))
    start = {"python": [sys.executable], "pytest": [sys.executable, "-m", "pytest"]}[program]
    done = subprocess.run(
        [*start, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("warm_processes")
def test_the_commands_give_the_table_that_the_page_shows(tmp_path: Path) -> None:
    *copies, comparison = TRIED.splitlines()
    for command in copies:
        run(command, tmp_path)
    printed = run(f"{comparison} -p no:cacheprovider", tmp_path)
    (shown,) = re.findall(r"^candidates of .*?^  best: .*?$", printed, re.S | re.M)
    assert _words(shown) == _words(OUTPUT)
    assert _numbers(shown) == pytest.approx(_numbers(OUTPUT), abs=2e-3)


def test_the_first_command_compares_the_folders_of_a_run(project, gate_draft: Path) -> None:
    program, *arguments = shlex.split(FIRST)
    assert program == "pytest"
    root = project.pytester.path
    (root / "suites" / "letters").rename(root / "suites" / "chat")
    (root / "runs").mkdir()
    for step in (900, 1000):
        (root / "runs" / f"ckpt-{step}").symlink_to(gate_draft)
    result = project.run(*arguments, "--specdec-k=4", "--specdec-depth=0", ok=True)
    result.stdout.fnmatch_lines(["  best: ckpt-900; ckpt-1000 not significantly below it*"])
    assert "ckpt-1000" in (root / "curve.html").read_text(encoding="utf-8")


def _numbers(table: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", table)]


def _words(table: str) -> list[str]:
    return re.sub(r"[+-]?\d+\.\d+", "N", table).split()
