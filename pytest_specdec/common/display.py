"""Paths as messages name them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def told_files(files: Iterable[Path]) -> list[str]:
    """One line a file; where a folder gets more than a few, one line for the folder."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(files):
        folders.setdefault(path.parent, []).append(path)
    lines = []
    for folder, paths in folders.items():
        lines += (
            [f"wrote {len(paths)} files in {short(folder)}"]
            if len(paths) > 6
            else [f"wrote {short(path)}" for path in paths]
        )
    return lines


def short(path: Path) -> str:
    """A path below the working directory without it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
