"""Accepts slow erosion: records forget the baselines that they replaced."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ..common.errors import BaselineError
from .diff import record_names
from .store import load_baseline
from .writing import dumps


def forgetting(paths: Iterable[Path]) -> dict[Path, str]:
    """The new content of every record that has replaced a baseline, without its history. Paths are
    files of baselines, or folders of them.

    Raises BaselineError for a missing or unreadable file, and a folder that holds no baseline.
    """
    contents = {}
    for path in (file for given in paths for file in _records(given)):
        record = load_baseline(path)
        if record.replaced:
            contents[path] = dumps(msgspec.structs.replace(record, replaced=()))
    return contents


def _records(path: Path) -> list[Path]:
    if not path.exists():
        raise BaselineError(f"no baseline at {path}; name a baseline file, or a folder of them")
    if not path.is_dir():
        return [path]
    names = sorted(record_names(path))
    if not names:
        raise BaselineError(f"{path} holds no baseline; name a folder that does")
    return [path / f"{name}.json" for name in names]
