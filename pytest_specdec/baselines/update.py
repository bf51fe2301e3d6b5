"""An update of stored baselines: whole or not at all, as a set.

All new contents first go into one file, the journal, which gets its name in a single step. From
then on the update holds; before, nothing has changed. Only then are the files replaced, and the
journal is removed at last. While there is a journal, no baseline beside it is read: the next
session completes the update first, whatever stopped it: a kill, a crash, a power cut.

    journal aside -> journal -> files aside -> files -> no journal
                     ^ from here on the update holds
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..common.bounded_files import read_bytes
from ..common.errors import BaselineError
from ..common.strict_json import JsonError, parse_json
from .disk import Disk
from .seen_files import SeenFiles

JOURNAL = ".specdec-update"
"""An unfinished update, in the folder of the baselines. On purpose git does not ignore it: with the
half of an update that it completes, it would be committed.
"""
ASIDE = ".specdec"
"""The folder, ignored by git, for files that are not complete yet."""
_SCHEMA = 1
_MOST = 1 << 31
"""Bytes of a journal."""
_SECONDS = 60.0
"""For which another update is waited for."""
_ANCESTORS = 6
"""Folders above a stored file in which its journal may lie."""
_DISK = Disk()

Contents = Mapping[Path, str | None]
"""New contents by path; None removes a file."""


def update(
    folder: Path, files: Contents, *, seen: SeenFiles | None = None, disk: Disk = _DISK
) -> None:
    """Write and remove stored files below a folder: all or none, whatever stops it.

    `seen` is what the folder held when its baselines were read: if the suites of `files` have
    changed since, nothing is written.

    Raises BaselineError, with nothing changed, for files that cannot be written; where the folder
    fails in between, the message says so and the next session completes the update.
    """
    if not files:
        return
    folder, files = folder.absolute(), {path.absolute(): files[path] for path in files}
    _check(folder, files)
    with _writing(folder, disk):
        _complete(folder, disk)
        if seen is not None:
            seen.check(files)
        with _journaled(folder):
            _make_folders([path.parent for path in files if files[path] is not None], disk)
            disk.write(folder / ASIDE / "journal", _encoded(folder, files))
            disk.move(folder / ASIDE / "journal", folder / JOURNAL)
            disk.settle(folder)
        _apply(folder, files, disk)


def recover(folder: Path, *, disk: Disk = _DISK) -> list[str]:
    """Complete the updates of a folder, and of folders below it, that were cut short. Returns a
    note on each.

    Raises BaselineError where that is not possible.
    """
    notes = []
    for journal in sorted(folder.rglob(JOURNAL)) if folder.is_dir() else ():
        with _writing(journal.parent.absolute(), disk):
            count = _complete(journal.parent.absolute(), disk)
        if count:
            notes.append(f"completed an update of {count} files that was cut short")
    return notes


def refuse_unfinished(path: Path) -> None:
    """Raise BaselineError for a stored file that an unfinished update may yet replace."""
    for folder in path.absolute().parents[:_ANCESTORS]:
        if (folder / JOURNAL).exists():
            raise BaselineError(
                f"an update of {folder} is under way or was cut short, so {path} cannot be "
                f"believed; complete it with: python -m pytest_specdec baseline recover {folder}"
            )


def _check(folder: Path, files: Contents) -> None:
    """Refuse, before anything changes, what cannot be written or would be written elsewhere."""
    names: dict[str, Path] = {}
    for path in sorted(files):
        if not path.is_relative_to(folder) or ".." in path.parts:
            raise BaselineError(f"{path} is not in {folder}; name a folder that holds all files")
        parts = path.relative_to(folder).parts
        for depth in range(1, len(parts) + 1):
            place = folder.joinpath(*parts[:depth])
            if place.is_symlink():
                raise BaselineError(
                    f"{place} is a symbolic link, and an update would replace it or write "
                    "elsewhere; put the file itself there, or name the folder that it leads to"
                )
            if depth < len(parts) and place.exists() and not place.is_dir():
                raise BaselineError(f"{place} is a file where a folder must be; move it away")
        if path.is_dir():
            raise BaselineError(f"{path} is a folder where a file must be; move it away")
        other = names.setdefault(str(path).casefold(), path)
        if other != path:
            raise BaselineError(
                f"{other} and {path} are one file on Windows and macOS; rename one of the cases"
            )


@contextlib.contextmanager
def _writing(folder: Path, disk: Disk) -> Iterator[None]:
    """While entered, no other process writes to the folder. Raises BaselineError where one does for
    too long, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        _make_folders([folder / ASIDE], disk)
        if not (folder / ASIDE / ".gitignore").exists():
            disk.write(folder / ASIDE / ".gitignore", b"*\n")
        lock = FileLock(folder / ASIDE / "lock", timeout=_SECONDS)
        lock.acquire()
    except Timeout:
        raise BaselineError(
            f"another session is writing to {folder}; wait until it has ended and run again"
        ) from None
    except (OSError, NotImplementedError) as error:
        raise BaselineError(
            f"{folder} cannot be written ({_reason(error)}); check the folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _journaled(folder: Path) -> Iterator[None]:
    """Nothing has changed where this fails."""
    try:
        yield
    except OSError as error:
        for name in (JOURNAL, f"{ASIDE}/journal"):
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)
        raise BaselineError(
            f"{error.filename or folder} cannot be written ({_reason(error)}); nothing was "
            "changed; check the folder"
        ) from error


def _complete(folder: Path, disk: Disk) -> int:
    """Complete an update that was cut short; returns its number of files. The folder is locked."""
    journal = folder / JOURNAL
    try:
        content = read_bytes(journal, _MOST)
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise BaselineError(
            f"{journal} cannot be read ({_reason(error)}); check the folder"
        ) from error
    if content:
        files = _decoded(folder, content)
        _check(folder, files)
        _apply(folder, files, disk)
        return len(files)
    for path in (folder / ASIDE).glob("new-*"):
        with contextlib.suppress(OSError):
            path.unlink()
    return 0


def _apply(folder: Path, files: Contents, disk: Disk) -> None:
    """Replace the files of a journal; doing it again changes nothing more."""
    try:
        _make_folders([path.parent for path in files if files[path] is not None], disk)
        staged = {}
        for number, path in enumerate(sorted(files)):
            content = files[path]
            if content is not None and not _holds(path, content.encode()):
                staged[path] = folder / ASIDE / f"new-{number}"
                disk.write(staged[path], content.encode())
        for path, source in staged.items():
            disk.move(source, path)
        for path in files:
            if files[path] is None:
                disk.remove(path)
        for parent in sorted({path.parent for path in files}):
            if parent.is_dir():
                disk.settle(parent)
        disk.remove(folder / JOURNAL)
        disk.settle(folder)
    except OSError as error:
        raise BaselineError(
            f"{error.filename or folder} cannot be written ({_reason(error)}), and the update of "
            f"{folder} is unfinished; make room or check the folder, and the next session "
            "completes it"
        ) from error


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _make_folders(folders: Iterable[Path], disk: Disk) -> None:
    for folder in sorted(set(folders)):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        for place in reversed(missing):
            disk.make_folder(place)
            disk.settle(place.parent)


def _encoded(folder: Path, files: Contents) -> bytes:
    body = json.dumps(
        {path.relative_to(folder).as_posix(): files[path] for path in sorted(files)}, indent=0
    ).encode()
    head = json.dumps({"schema": _SCHEMA, "sha256": hashlib.sha256(body).hexdigest()}).encode()
    return head + b"\n" + body


def _decoded(folder: Path, content: bytes) -> dict[Path, str | None]:
    """The files of a journal. Raises BaselineError for one that is damaged or leads elsewhere."""
    first, _, body = content.partition(b"\n")
    try:
        head: Any = parse_json(first.decode())
        if head != {"schema": _SCHEMA, "sha256": hashlib.sha256(body).hexdigest()}:
            raise ValueError
        entries: Any = parse_json(body.decode())
        files = {folder / _inside(name): _text(entries[name]) for name in entries}
    except (JsonError, ValueError, TypeError):
        raise BaselineError(
            f"{folder / JOURNAL} is damaged, and the baselines beside it may be of two updates; "
            "restore the folder from version control, then delete that file"
        ) from None
    return files


def _inside(name: str) -> PurePosixPath:
    """A name in a journal. Raises ValueError where it is not that of a stored file."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".json" or "\\" in name:
        raise ValueError
    if ":" in path.parts[0]:
        raise ValueError
    return path


def _text(content: object) -> str | None:
    if content is not None and not isinstance(content, str):
        raise TypeError
    return content


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error)
