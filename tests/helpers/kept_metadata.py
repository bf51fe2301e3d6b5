"""Metadata of installed packages that is parsed once, for the many sessions within a process.

Every session of pytest reads the entry points, files and names of all installed packages, which
takes a third of a short one.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

KEPT = ("entry_points", "files", "metadata")


@contextmanager
def kept_metadata() -> Iterator[None]:
    """While the block runs, what is on sys.path is looked for again only where a folder on it, or the
    path itself, changes.
    """
    found = importlib.metadata.distributions

    @functools.lru_cache(maxsize=16)
    def known(places: tuple[tuple[str, int], ...]) -> list[importlib.metadata.Distribution]:
        return list(found())

    def distributions(**context: Any) -> Iterator[importlib.metadata.Distribution]:
        places = () if context else tuple((place, _changed(place)) for place in sys.path)
        return iter(found(**context) if context else known(places))

    with pytest.MonkeyPatch.context() as patch:
        for name in KEPT:
            read = vars(importlib.metadata.Distribution)[name].fget
            patch.setattr(importlib.metadata.Distribution, name, _read_once(name, read))
        patch.setattr(importlib.metadata, "distributions", distributions)
        yield


def _changed(place: str) -> int:
    """When a folder on sys.path got or lost its last entry."""
    try:
        return os.stat(place or os.curdir).st_mtime_ns
    except OSError:
        return 0


def _read_once(name: str, read: Any) -> Any:
    def kept(self: importlib.metadata.Distribution) -> Any:
        values = vars(self).setdefault("_kept", {})
        if name not in values:
            values[name] = read(self)
        return values[name]

    return property(kept)
