"""An update is whole or not at all, whatever stops it. `benchmarks/torn_updates.py` is the large
version.
"""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.tiers import exhaustive

if sys.platform == "win32":
    pytest.skip("updates are stopped in forks, which Windows has not", allow_module_level=True)

from torn_updates import (
    MEMORY,
    Quick,
    Sets,
    Stopped,
    calls_of,
    failures,
    fault,
    in_child,
    killed,
    kills_at_every_call,
    kills_at_random,
    kills_in_recovery,
    make_sets,
    power_cuts,
    put,
    sessions,
    small_files_only,
    state_of,
    symbolic_links,
    without_rights,
)

from pytest_specdec.baselines.disk import Disk
from pytest_specdec.baselines.seen_files import SeenFiles
from pytest_specdec.baselines.store import load_baseline
from pytest_specdec.baselines.update import ASIDE, JOURNAL, recover, update
from pytest_specdec.common.errors import BaselineError


@pytest.fixture(scope="module")
def sets() -> Sets:
    return make_sets()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="torn-", dir=MEMORY) as name:
        yield Path(name)


def none_of(results: Iterator[str | None], least: int) -> None:
    faults = list(results)
    assert not [found for found in faults if found]
    assert len(faults) >= least


def test_a_kill_at_any_call_leaves_one_set(sets: Sets, memory: Path) -> None:
    none_of(kills_at_every_call(sets, memory, step=3), 50)


@pytest.mark.parametrize("count", [exhaustive(8), exhaustive(20)])
def test_a_kill_at_any_moment_leaves_one_set(sets: Sets, memory: Path, count: int) -> None:
    none_of(kills_at_random(sets, memory, random.Random(0), count, [0]), count)


def test_a_recovery_that_is_killed_is_completed_by_the_next(sets: Sets, memory: Path) -> None:
    none_of(kills_in_recovery(sets, memory, random.Random(0), 20), 20)


def test_a_power_cut_leaves_one_set(sets: Sets, memory: Path) -> None:
    none_of(power_cuts(sets, memory, random.Random(0), 100), 100)


def test_a_failing_disk_and_an_interruption_leave_one_set(sets: Sets, memory: Path) -> None:
    none_of(failures(sets, memory, step=7), 90)


def test_a_limited_file_size_leaves_one_set(sets: Sets, memory: Path) -> None:
    none_of(small_files_only(sets, memory), 9)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, who becomes nobody")
def test_nothing_is_written_without_the_right_to(sets: Sets, memory: Path) -> None:
    none_of(without_rights(sets, memory), 6)


def test_of_two_updates_at_once_one_is_written(sets: Sets, memory: Path) -> None:
    none_of(sessions(sets, memory, 5), 5)


def test_symbolic_links_are_refused_below_the_folder(sets: Sets, memory: Path) -> None:
    none_of(symbolic_links(sets, memory), 9)


class Hasty(Disk):
    """Replaces files without a journal, as an update that cannot be completed would."""

    def move(self, source: Path, path: Path) -> None:
        if path.name == JOURNAL:
            source.unlink()
        else:
            super().move(source, path)


def test_the_harness_sees_a_torn_set(sets: Sets, tmp_path: Path) -> None:
    class HastyStopped(Stopped, Hasty):
        """Both."""

    put(tmp_path, sets.old)
    calls = calls_of(sets, tmp_path / "undisturbed")
    (tmp_path / "torn").mkdir()
    put(tmp_path / "torn", sets.old)
    place = tmp_path / "torn"
    disk = HastyStopped(calls - 10, "before", killed)
    in_child(lambda: update(place, sets.changes(place, sets.new), disk=disk))
    assert fault(place, sets, Quick()) == "a mixed set was believed before its recovery"


def test_the_harness_needs_the_order_of_the_disk(sets: Sets, memory: Path) -> None:
    """Without waiting for the names in folders a power cut can lose some of them."""
    from torn_updates import Powered

    class Unsettled(Powered):
        def settle(self, folder: Path) -> None:
            self._keep()

    (memory / "run").mkdir()
    put(memory / "run", sets.old)
    disk = Unsettled(memory / "run", sets.old)
    update(memory / "run", sets.changes(memory / "run", sets.new), disk=disk)
    rng, found = random.Random(0), set()
    for number in range(60):
        disk.after_power_cut(memory / str(number), rng)
        found.add(fault(memory / str(number), sets, Quick()))
    assert found - {None}


@pytest.fixture
def unfinished(sets: Sets, tmp_path: Path) -> Path:
    """A folder with half of an update."""
    put(tmp_path, sets.old)
    disk = Stopped(calls_of(sets, tmp_path.parent / f"{tmp_path.name}-calls") - 8, "before", killed)
    in_child(lambda: update(tmp_path, sets.changes(tmp_path, sets.new), disk=disk))
    assert (tmp_path / JOURNAL).exists()
    assert state_of(tmp_path) not in (sets.old, sets.new)
    return tmp_path


def test_no_baseline_beside_an_unfinished_update_is_read(sets: Sets, unfinished: Path) -> None:
    path = next(unfinished.rglob("*.json"))
    with pytest.raises(
        BaselineError, match=r"cut short, so .* cannot be believed; .* baseline recover"
    ):
        load_baseline(path)
    assert recover(unfinished) == ["completed an update of 24 files that was cut short"]
    assert state_of(unfinished) == sets.new
    assert recover(unfinished) == []
    load_baseline(next(unfinished.rglob("*.json")))


def test_the_folder_above_recovers_too(sets: Sets, unfinished: Path) -> None:
    assert recover(unfinished.parent) != []
    assert state_of(unfinished) == sets.new


def test_a_recovery_needs_nothing_but_the_journal(sets: Sets, unfinished: Path) -> None:
    for path in (unfinished / ASIDE).iterdir():
        path.unlink()
    recover(unfinished)
    assert state_of(unfinished) == sets.new


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-9],
        lambda text: text.replace("rounds", "sounds"),
        lambda text: text.partition("\n")[2],
        lambda text: "{}\n",
        lambda text: "\x00" * len(text),
    ],
    ids=["cut", "edited", "headless", "empty", "zeros"],
)
def test_a_damaged_journal_is_refused(unfinished: Path, damage) -> None:
    (unfinished / JOURNAL).write_text(damage((unfinished / JOURNAL).read_text()))
    before = state_of(unfinished)
    with pytest.raises(BaselineError, match=r"is damaged, .* restore the folder from version"):
        recover(unfinished)
    assert state_of(unfinished) == before


@pytest.mark.parametrize(
    "name",
    ["../out.json", "/tmp/out.json", "a/../../out.json", "..\\out.json", "C:/out.json", "a/x.py"],
)
def test_a_journal_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    import hashlib

    folder = tmp_path / "baselines"
    folder.mkdir()
    body = json.dumps({name: "written"}).encode()
    head = json.dumps({"schema": 1, "sha256": hashlib.sha256(body).hexdigest()}).encode()
    (folder / JOURNAL).write_bytes(head + b"\n" + body)
    with pytest.raises(BaselineError, match="is damaged"):
        recover(folder)
    assert not list(tmp_path.rglob("out.json"))
    assert not list(tmp_path.rglob("x.py"))


def test_an_error_names_what_to_do(sets: Sets, tmp_path: Path) -> None:
    put(tmp_path, sets.old)

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = sets.changes(tmp_path, sets.new)
    with pytest.raises(BaselineError, match=r"No space left on device\); nothing was changed"):
        update(tmp_path, files, disk=Stopped(5, "before", full))
    with pytest.raises(BaselineError, match=r"unfinished; make room .* the next session completes"):
        update(tmp_path, files, disk=Stopped(20, "before", full))


def test_files_outside_and_names_that_differ_by_case_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"is not in .*; name a folder that holds"):
        update(tmp_path / "a", {tmp_path / "b.json": "x"})
    with pytest.raises(BaselineError, match="are one file on Windows and macOS"):
        update(tmp_path, {tmp_path / "B.json": "x", tmp_path / "b.json": "y"})
    assert not list(tmp_path.rglob("*.json"))


def test_what_changed_since_it_was_read_is_not_overwritten(sets: Sets, tmp_path: Path) -> None:
    put(tmp_path, sets.old)
    seen = SeenFiles.of(tmp_path)
    (tmp_path / "b" / "case-1.json").write_text("another session's")
    update(tmp_path, {tmp_path / "a" / "case-0.json": "{}"}, seen=seen)  # of another suite
    with pytest.raises(BaselineError, match=r"case-1\.json changed while this session ran"):
        update(tmp_path, {tmp_path / "b" / "case-3.json": "{}"}, seen=seen)
    seen.check([tmp_path / "c" / "x.json"])
    (tmp_path / "b" / "texts").mkdir()
    seen = SeenFiles.of(tmp_path)
    (tmp_path / "b" / "texts" / "t.json").write_text("{}")
    with pytest.raises(BaselineError, match=r"t\.json changed"):
        seen.check([tmp_path / "b" / "x.json"])


def test_nothing_is_made_where_there_is_nothing_to_write(tmp_path: Path) -> None:
    update(tmp_path / "none", {})
    assert recover(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_what_stays_is_ignored_by_git(sets: Sets, tmp_path: Path) -> None:
    put(tmp_path, sets.old)
    update(tmp_path, sets.changes(tmp_path, sets.new))
    assert (tmp_path / ASIDE / ".gitignore").read_text() == "*\n"
    others = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert {path.parent.name for path in others} == {ASIDE}
