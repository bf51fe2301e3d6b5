"""Candidates: the folders that a pattern such as `ckpt-*` names in the place of one drafter."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import RequestError

_MAGIC = re.compile(r"[*?[]")
_NUMBER = re.compile(r"([0-9]+)")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One folder of a pattern."""

    path: str
    """Absolute."""
    name: str
    """What its path has and the others' have not, in ids: `ckpt-3000`."""


def is_pattern(path: str, folder: Path) -> bool:
    """Whether a path has wildcards and is not the name of a folder below `folder` itself."""
    return bool(_MAGIC.search(path)) and not (folder / Path(path).expanduser()).is_dir()


def candidates(
    pattern: str, folder: Path, option: str = "--specdec-draft"
) -> tuple[Candidate, ...]:
    """The folders that a pattern below `folder` matches, numbers in their names in numerical order:
    ckpt-9 before ckpt-10.

    `**` matches folders at any depth. Raises RequestError where there is none.
    """
    found = glob.glob(os.path.expanduser(pattern), root_dir=folder, recursive=True)
    absolute = {os.path.normpath(folder / path) for path in found}
    paths = sorted(filter(os.path.isdir, absolute), key=natural_order)
    if not paths:
        raise RequestError(f"no folder matches {option}={pattern!r} in {folder}; check the pattern")
    return tuple(map(Candidate, paths, _names(paths)))


def natural_order(text: str) -> list[int | str]:
    """A key for sorting: text and numbers in turn, so that ckpt-9 comes before ckpt-10."""
    return [int(part) if part.isdecimal() else part for part in _NUMBER.split(text)]


def _names(paths: Sequence[str]) -> list[str]:
    """Each path without the parts that all share at its beginning and end."""
    parts = [Path(path).parts for path in paths]
    begin = _shared(parts)
    end = _shared([path[begin:][::-1] for path in parts])
    return ["_".join(path[begin : len(path) - end]) or path[-1] for path in parts]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """Number of leading parts that all sequences share."""
    columns = zip(*parts, strict=False)
    return next(
        (at for at, column in enumerate(columns) if len(set(column)) > 1), min(map(len, parts))
    )
