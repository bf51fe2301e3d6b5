"""What a folder of baselines held when a session began: baselines that change while it reads them
are of no use to it, and those that another session wrote are not overwritten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..common.errors import BaselineError

_BESIDE = ("texts", "tokens", "evidence")


def suite_of(path: Path) -> Path:
    """The folder of the records that a stored file belongs to."""
    return path.parent.parent if path.parent.name in _BESIDE else path.parent


@dataclasses.dataclass(frozen=True)
class SeenFiles:
    """The stored files of a folder, each with its place on disk, time and size."""

    folder: Path
    files: Mapping[Path, tuple[int, int, int]]

    @classmethod
    def of(cls, folder: Path) -> SeenFiles:
        """Those that are there now."""
        folder = folder.absolute()
        return cls(folder, _stamps(folder))

    def check(self, paths: Iterable[Path]) -> None:
        """Raise BaselineError where a stored file has changed in one of the suites that `paths`
        belong to.
        """
        suites = {suite_of(path.absolute()) for path in paths}
        now = _stamps(self.folder)
        changed = sorted(
            path
            for path in {*self.files, *now}
            if suite_of(path) in suites and self.files.get(path) != now.get(path)
        )
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise BaselineError(
                f"{changed[0]}{more} changed while this session ran, so it compared with baselines "
                "of two states; nothing was written; run again, one session at a time"
            )


def _stamps(folder: Path) -> dict[Path, tuple[int, int, int]]:
    stamps = {}
    for path in folder.rglob("*.json"):
        try:
            found = path.stat()
        except OSError:  # removed meanwhile, or a link that leads nowhere
            continue
        stamps[path] = (found.st_ino, found.st_mtime_ns, found.st_size)
    return stamps
