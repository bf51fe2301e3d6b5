"""Updates of baselines that are stopped in the middle: what is left, and what a later run believes.

    python benchmarks/torn_updates.py [--kills 1000] [--power-cuts 5000] [--seed 0]

A set of 24 stored files is updated: most are replaced, one is new, one is removed. The update is
killed (SIGKILL) before, within and after each of its calls and at random moments, loses its disk,
its power or its right to write, and meets other updates and readers. After each stop the files are
read as they are, then as the next session reads them. Each file is refused, or all are of one set.
A table is printed; exit status 1 where a mixed set was believed, or something was left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import errno
import functools
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pytest_specdec.baselines.disk import Disk
from pytest_specdec.baselines.seen_files import SeenFiles
from pytest_specdec.baselines.store import load
from pytest_specdec.baselines.update import ASIDE, JOURNAL, Contents, recover, update
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.common.errors import BaselineError
from pytest_specdec.records.record import Record

STORED = Path(__file__).parent.parent / "baselines" / "text"
FILES = 24
MEMORY = Path("/dev/shm")
"""Where there is a file system in memory: neither kills nor simulated power cuts need a disk."""
State = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Sets:
    """The set of files before an update, the set after it, and one of another update."""

    old: State
    new: State
    other: State

    def changes(self, folder: Path, to: State) -> Contents:
        return {folder / name: to.get(name) for name in {*self.old, *to}}


def make_sets() -> Sets:
    """Three sets of records, each of another seed."""
    record = load(sorted(STORED.glob("*.json"))[0], Record)
    assert record is not None
    rows = dict(list(record.counts.items())[:2])
    record = msgspec.structs.replace(record, counts=rows, again=(), repeats=1, case="")

    def of(seed: int, numbers: range) -> State:
        text = dumps(msgspec.structs.replace(record, seed=seed))
        return {f"{'ab'[n % 2]}/case-{n}.json": text for n in numbers}

    return Sets(of(1, range(FILES - 1)), of(2, range(1, FILES)), of(3, range(1, FILES)))


def put(folder: Path, state: State) -> None:
    for name, text in state.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def state_of(folder: Path) -> State:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.json")
    }


def fault(folder: Path, sets: Sets, disk: Disk | None = None) -> str | None:
    """What is wrong with a folder in which an update was stopped; None where nothing is."""
    known = (sets.old, sets.new, sets.other)
    try:
        for path in folder.rglob("*.json"):
            load(path, Record)
    except BaselineError:
        pass  # refused
    else:
        if state_of(folder) not in known:
            return "a mixed set was believed before its recovery"
    try:
        recover(folder, disk=disk or Disk())
    except BaselineError as error:
        return f"not recovered: {error}"
    if state_of(folder) not in known:
        return "a mixed set was believed after its recovery"
    update(folder, sets.changes(folder, sets.new), disk=disk or Disk())  # the next update clears up
    left = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".json"
    } - {f"{ASIDE}/.gitignore", f"{ASIDE}/lock"}
    return f"left behind: {', '.join(sorted(left))}" if left else None


class Quick(Disk):
    """Writes names only: what reaches the disk is of no interest where nothing cuts the power."""

    def write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)

    def settle(self, folder: Path) -> None:
        pass


@dataclasses.dataclass
class Stopped(Quick):
    """A disk that stops at one of its calls: before it, after it, or within the writing of a file."""

    at: int
    when: str
    stop: Callable[[], None]
    calls: int = 0

    def write(self, path: Path, content: bytes) -> None:
        if self.calls == self.at and self.when == "within":
            path.write_bytes(content[: len(content) // 2])
            self.stop()
        self._call(lambda: super(Stopped, self).write(path, content))

    def move(self, source: Path, path: Path) -> None:
        self._call(lambda: super(Stopped, self).move(source, path))

    def remove(self, path: Path) -> None:
        self._call(lambda: super(Stopped, self).remove(path))

    def make_folder(self, folder: Path) -> None:
        self._call(lambda: super(Stopped, self).make_folder(folder))

    def settle(self, folder: Path) -> None:
        self._call(lambda: None)

    def _call(self, done: Callable[[], None]) -> None:
        number, self.calls = self.calls, self.calls + 1
        if number == self.at and self.when == "before":
            self.stop()
        done()
        if number == self.at and self.when == "after":
            self.stop()


def calls_of(sets: Sets, folder: Path) -> int:
    """The calls of one undisturbed update."""
    put(folder, sets.old)
    counting = Stopped(-1, "before", lambda: None)
    update(folder, sets.changes(folder, sets.new), disk=counting)
    assert state_of(folder) == sets.new
    return counting.calls


def in_child(work: Callable[[], object], after: Callable[[int], None] = lambda pid: None) -> int:
    """Do something in a fork of this process; its wait status."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            work()
            status = 0
        except BaselineError:
            status = 1
        finally:
            os._exit(status)
    after(pid)
    return os.waitpid(pid, 0)[1]


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kills_at_every_call(sets: Sets, folder: Path, step: int = 1) -> Iterator[str | None]:
    """SIGKILL before, within and after each call."""
    for at in range(0, calls_of(sets, folder / "undisturbed"), step):
        for when in ("before", "within", "after"):
            place = folder / f"{at}-{when}"
            put(place, sets.old)
            in_child(
                lambda place=place, at=at, when=when: update(
                    place, sets.changes(place, sets.new), disk=Stopped(at, when, killed)
                )
            )
            yield fault(place, sets, Quick())
            shutil.rmtree(place)


def kills_in_recovery(
    sets: Sets, folder: Path, rng: random.Random, count: int
) -> Iterator[str | None]:
    """A second kill while the first one's update is being completed."""
    calls = calls_of(sets, folder / "undisturbed")
    for number in range(count):
        place = folder / str(number)
        put(place, sets.old)
        first = Stopped(rng.randrange(calls // 2), "after", killed)
        in_child(functools.partial(update, place, sets.changes(place, sets.new), disk=first))
        second = Stopped(rng.randrange(calls), rng.choice(("before", "within", "after")), killed)
        in_child(functools.partial(recover, place, disk=second))
        yield fault(place, sets, Quick())
        shutil.rmtree(place)


def kills_at_random(
    sets: Sets, folder: Path, rng: random.Random, count: int, kills: list[int]
) -> Iterator[str | None]:
    """SIGKILL from outside, a random time after the update began, until `count` met it; `kills`
    counts all of them.
    """
    beginning, begun = os.pipe()
    times: list[float] = []

    def work(place: Path) -> None:
        os.write(begun, b"x")
        update(place, sets.changes(place, sets.new))

    def kill(pid: int) -> None:
        os.read(beginning, 1)
        start = time.perf_counter()
        if len(times) < 20:  # how long an update takes
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            times.append(time.perf_counter() - start)
        else:
            time.sleep(rng.uniform(0, sorted(times)[len(times) // 2]))
            os.kill(pid, signal.SIGKILL)

    met = 0
    while met < count:
        place = folder / str(kills[0])
        put(place, sets.old)
        inside = os.WIFSIGNALED(in_child(functools.partial(work, place), kill))
        kills[0] += 1
        met += inside
        if inside:
            yield fault(place, sets, Quick())
        shutil.rmtree(place)


def failures(sets: Sets, folder: Path, step: int = 1) -> Iterator[str | None]:
    """The disk is full, read-only or broken, or Ctrl-C comes, at each call."""
    calls = calls_of(sets, folder / "undisturbed")
    for name, error in (
        ("full", OSError(errno.ENOSPC, "No space left on device")),
        ("read-only", OSError(errno.EROFS, "Read-only file system")),
        ("broken", OSError(errno.EIO, "Input/output error")),
        ("interrupted", KeyboardInterrupt()),
    ):
        for at in range(0, calls, step):
            for when in ("before", "within", "after"):
                place = folder / f"{name}-{at}-{when}"
                put(place, sets.old)

                def stop(error: BaseException = error) -> None:
                    raise error

                with contextlib.suppress(BaselineError, KeyboardInterrupt):
                    update(place, sets.changes(place, sets.new), disk=Stopped(at, when, stop))
                yield fault(place, sets, Quick())
                shutil.rmtree(place)


def small_files_only(sets: Sets, folder: Path) -> Iterator[str | None]:
    """A real limit of the file size, so that the journal, or a file, cannot be written whole."""
    text = len(next(iter(sets.new.values())))
    for limit in (
        0,
        1,
        10,
        text // 2,
        text - 1,
        text,
        text * 2,
        text * FILES // 2,
        text * FILES * 4,
    ):
        place = folder / str(limit)
        put(place, sets.old)

        def work(place: Path = place, limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            update(place, sets.changes(place, sets.new))

        in_child(work)
        yield fault(place, sets)


def without_rights(sets: Sets, folder: Path) -> Iterator[str | None]:
    """Another user's folder; needs root, who becomes nobody."""
    if os.geteuid() != 0:
        return
    for name in ("", "a", "b"):
        place = Path(tempfile.mkdtemp(prefix="torn-"))
        put(place, sets.old)
        for path in (place, *place.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        (place / name).chmod(0o555)

        def work(place: Path = place) -> None:
            os.setuid(65534)
            update(place, sets.changes(place, sets.new))

        status = in_child(work)
        yield None if os.WEXITSTATUS(status) == 1 else f"{name}: written without the right to"
        yield fault(place, sets)
        shutil.rmtree(place)


class Powered(Quick):
    """Keeps what has reached the disk apart from what is only in memory, as POSIX allows it."""

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.durable: dict[str, bytes | None] = {
            name: text.encode() for name, text in state.items()
        } | {str(path.relative_to(folder)): None for path in folder.rglob("*") if path.is_dir()}
        self.pending: list[tuple[str, bytes | bool | None]] = []
        """Names that changed: their content, None for a folder, False for one that is gone."""
        self.moments: list[
            tuple[dict[str, bytes | None], list[tuple[str, bytes | bool | None]]]
        ] = []

    def _keep(self) -> None:
        self.moments.append((dict(self.durable), list(self.pending)))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def write(self, path: Path, content: bytes) -> None:
        for part in (0, len(content) // 2, len(content)):
            self.pending.append((self._name(path), content[:part]))
            self._keep()
            if part < len(content):
                self.pending.pop()
        name = self._name(path)
        if name in self.durable:
            self.durable[name] = content
        super().write(path, content)

    def move(self, source: Path, path: Path) -> None:
        content = source.read_bytes()
        self.pending += [(self._name(path), content), (self._name(source), False)]
        super().move(source, path)
        self._keep()

    def remove(self, path: Path) -> None:
        self.pending.append((self._name(path), False))
        super().remove(path)
        self._keep()

    def make_folder(self, folder: Path) -> None:
        self.pending.append((self._name(folder), None))
        super().make_folder(folder)
        self._keep()

    def settle(self, folder: Path) -> None:
        if not folder.is_relative_to(self.folder):
            return
        settled = [c for c in self.pending if (self.folder / c[0]).parent == folder]
        _apply(self.durable, settled)
        self.pending = [change for change in self.pending if change not in settled]
        self._keep()

    def after_power_cut(self, folder: Path, rng: random.Random) -> None:
        """Make the files that may be there after a cut at a random moment."""
        durable, pending = rng.choice(self.moments)
        share = rng.choice((0.0, 0.5, 1.0))
        files = dict(durable)
        _apply(files, [change for change in pending if rng.random() < share])
        folder.mkdir()
        for name in sorted(files):
            content, path = files[name], folder / name
            if not path.parent.is_dir():
                continue  # its folder was lost
            if content is None:
                path.mkdir(exist_ok=True)
            else:
                path.write_bytes(content)


def _apply(files: dict[str, bytes | None], changes: list[tuple[str, bytes | bool | None]]) -> None:
    for name, content in changes:
        if isinstance(content, bool):
            files.pop(name, None)
        else:
            files[name] = content


def power_cuts(sets: Sets, folder: Path, rng: random.Random, count: int) -> Iterator[str | None]:
    """The power is cut at a random moment: what was not synchronised is lost in part, in any order."""
    (folder / "run").mkdir(parents=True)
    put(folder / "run", sets.old)
    disk = Powered(folder / "run", sets.old)
    update(folder / "run", sets.changes(folder / "run", sets.new), disk=disk)
    for number in range(count):
        place = folder / str(number)
        disk.after_power_cut(place, rng)
        yield fault(place, sets, Quick())
        shutil.rmtree(place)


def sessions(sets: Sets, folder: Path, count: int) -> Iterator[str | None]:
    """Two updates and a reader at once. The reader believes one set or sees that it changed; of two
    updates that began with the same files, one is written.
    """
    for number in range(count):
        place = folder / str(number)
        put(place, sets.old)
        seen = SeenFiles.of(place)
        writers = []
        for state in (sets.new, sets.other):
            pid = os.fork()
            if pid == 0:
                status = 3
                try:
                    update(place, sets.changes(place, state), seen=seen, disk=Quick())
                    status = 0
                except BaselineError:
                    status = 1
                finally:
                    os._exit(status)
            writers.append(pid)
        try:
            at_first = SeenFiles.of(place)
            read = {
                name: text for name, text in state_of(place).items() if load(place / name, Record)
            }
            at_first.check([place / "a" / "x.json", place / "b" / "x.json"])
        except (BaselineError, OSError):
            read = sets.old  # refused, or a file was gone
        ended = [os.WEXITSTATUS(os.waitpid(pid, 0)[1]) for pid in writers]
        if read not in (sets.old, sets.new, sets.other):
            yield "a reader believed a mixed set"
        elif sorted(ended) != [0, 1]:
            yield f"two updates of the same files ended with {ended}"
        elif state_of(place) != (sets.new if ended[0] == 0 else sets.other):
            yield "the update that was written is not what the folder holds"
        else:
            yield fault(place, sets, Quick())
        shutil.rmtree(place)


def symbolic_links(sets: Sets, folder: Path) -> Iterator[str | None]:
    """Links below the folder are refused, the folder itself may be one."""
    outside = folder / "outside"
    outside.mkdir(parents=True)
    (outside / "case-1.json").write_text("precious")
    for number, name in enumerate(("a/case-2.json", "b/case-1.json", "a", "b")):
        place = folder / str(number)
        put(place, sets.old)
        link = place / name
        shutil.rmtree(link) if link.is_dir() else link.unlink()
        link.symlink_to(outside if "." not in name else outside / "case-1.json")
        before = state_of(place)
        try:
            update(place, sets.changes(place, sets.new))
        except BaselineError:
            same = state_of(place) == before and not (place / JOURNAL).exists()
            yield None if same else f"{name}: a refused update changed files"
        else:
            yield f"{name}: a link was written through"
        yield None if (outside / "case-1.json").read_text() == "precious" else "written outside"
    put(folder / "real", sets.old)
    (folder / "link").symlink_to(folder / "real")
    update(folder / "link", sets.changes(folder / "link", sets.new))
    yield fault(folder / "real", sets)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--power-cuts", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sets, rng, kills = make_sets(), random.Random(options.seed), [0]
    memory = MEMORY if MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="torn-", dir=memory) as name:
        root = Path(name)
        ways = {
            "SIGKILL before, within and after each call": kills_at_every_call(sets, root / "calls"),
            "SIGKILL at a random moment": kills_at_random(
                sets, root / "random", rng, options.kills, kills
            ),
            "SIGKILL twice, the second in the recovery": kills_in_recovery(
                sets, root / "twice", rng, options.kills // 2
            ),
            "power cut, unsynchronised names lost": power_cuts(
                sets, root / "power", rng, options.power_cuts
            ),
            "disk full, read-only, broken, Ctrl-C, at each call": failures(sets, root / "failures"),
            "limited file size": small_files_only(sets, root / "limit"),
            "folders without the right to write": without_rights(sets, root / "rights"),
            "two updates and a reader at once": sessions(
                sets, root / "sessions", options.kills // 10
            ),
            "symbolic links": symbolic_links(sets, root / "links"),
        }
        print("| stopped by | times | faults |\n|---|---|---|")
        found: list[str] = []
        for way, results in ways.items():
            faults = [(number, result) for number, result in enumerate(results)]
            wrong = [f"{way} {number}: {result}" for number, result in faults if result]
            print(f"| {way} | {len(faults)} | {len(wrong)} |", flush=True)
            found += wrong
    print(f"\n{options.kills} of {kills[0]} updates were met by a kill at a random moment.")
    print("\n".join(found[:20]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
