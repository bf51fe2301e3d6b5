"""Sessions of pytest that are killed while they update baselines.

    python benchmarks/killed_sessions.py [--kills 50] [--seed 0]

A project of 12 gates on counts has baselines, all of one state; a session with `--specdec-update=all`
replaces them by another state. It is killed (SIGKILL) at one of its calls to the disk: a session of
one process, one of `-n 2`, and one of `-n 4` in which a worker is killed before it has ended. A
later session then runs without an update: what it believes is one state, whole. A table is printed;
exit status 1 where a mixed set was believed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import filelock  # noqa: F401  forks find it loaded
import pytest
import scipy.stats  # noqa: F401
from torn_updates import MEMORY, Stopped, calls_of, in_child, killed, make_sets

import pytest_specdec.baselines.update
import pytest_specdec.judging.runner
import pytest_specdec.session.session

GATES = 12
PROJECT = """
import os, random, signal, pytest

@pytest.mark.parametrize("gate", range({gates}))
def test_counts(specdec_gate, gate):
    draws = random.Random(gate)
    share = float(os.environ["SHARE"])
    rounds = {{
        f"q{{row}}": [[3, sum(draws.random() < share for _ in range(3))] for _ in range(20)]
        for row in range(16)
    }}
    specdec_gate(f"gate-{{gate}}", margin=0.1).check(rounds=rounds)
    if gate == 5 and os.environ.get("KILLED_WORKER"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def session(folder: Path, share: float, *arguments: str, kill: Stopped | None = None) -> int:
    """Run pytest in a fork of this process; its wait status."""

    def work() -> None:
        os.chdir(folder)
        os.environ.update(SHARE=str(share), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        if kill is not None:
            pytest_specdec.baselines.update.update.__kwdefaults__["disk"] = kill
        plugins = ("-p", "pytest_specdec.plugin", "-p", "no:cacheprovider")
        os._exit(pytest.main([*plugins, *arguments]))

    return in_child(work)


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("baselines/**/*.json")}


def believed(folder: Path, known: Sequence[dict[str, bytes]]) -> str:
    """Which state a later session believes: old or new, or what is wrong."""
    session(folder, 0.7)
    now = state(folder)
    return {0: "old", 1: "new"}[known.index(now)] if now in known else "mixed"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, results = random.Random(options.seed), Counter[tuple[str, str]]()
    with tempfile.TemporaryDirectory(
        prefix="killed-", dir=MEMORY if MEMORY.is_dir() else None
    ) as name:
        project = Path(name) / "project"
        project.mkdir()
        (project / "pytest.ini").write_text("[pytest]\n")
        (project / "test_counts.py").write_text(textwrap.dedent(PROJECT.format(gates=GATES)))
        assert session(project, 0.7, "--specdec-update=new") == 0
        old = state(project)
        again = Path(name) / "again"
        shutil.copytree(project, again)
        assert session(again, 0.4, "--specdec-update=all") == 0
        known = [old, state(again)]
        assert len(old) == GATES
        assert known[0] != known[1]
        calls = calls_of(make_sets(), Path(name) / "calls") // 2
        ways: list[tuple[str, tuple[str, ...]]] = [
            ("one process", ()),
            ("one process", ()),
            ("-n 2", ("-p", "xdist", "-n2")),
            ("one process", ()),
            ("-n 4, a worker killed", ("-p", "xdist", "-n4")),
        ]
        for number in range(options.kills):
            way, arguments = ways[number % len(ways)]
            place = Path(name) / str(number)
            shutil.copytree(project, place)
            at, when = rng.randrange(calls), rng.choice(("before", "within", "after"))
            kill = None if "worker" in way else Stopped(at, when, killed)
            if kill is None:
                os.environ["KILLED_WORKER"] = "1"
            session(place, 0.4, "--specdec-update=all", *arguments, kill=kill)
            os.environ.pop("KILLED_WORKER", None)
            results[way, believed(place, known)] += 1
            shutil.rmtree(place)
    print("| session | kills | then believed: old | new | mixed |\n|---|---|---|---|---|")
    for way in dict.fromkeys(way for way, _ in ways):
        found = [results[way, kind] for kind in ("old", "new", "mixed")]
        print(f"| {way} | {sum(found)} | {' | '.join(map(str, found))} |")
    return 1 if any(results[way, "mixed"] for way, _ in ways) else 0


if __name__ == "__main__":
    sys.exit(main())
