"""The few calls by which stored files change on disk, each durable where its name says so."""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """Calls in the order in which they must reach the disk; a test puts a failing one in its place.

    POSIX orders nothing by itself: after a power cut, what `write` wrote is there, and a name that
    was made, moved or removed is as it was before or after, until `settle` on its folder returned.
    """

    def write(self, path: Path, content: bytes) -> None:
        """Create or overwrite a file; its content is on disk when this returns."""
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def move(self, source: Path, path: Path) -> None:
        """Give a file another name, in one step, in the place of what has it."""
        os.replace(source, path)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def make_folder(self, folder: Path) -> None:
        """Create a folder whose parent exists."""
        folder.mkdir(exist_ok=True)

    def settle(self, folder: Path) -> None:
        """The names in a folder are on disk when this returns. Windows has no such call, and writes
        names in order.
        """
        if os.name == "nt":
            return
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
