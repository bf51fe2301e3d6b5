"""How large stored baselines are: bytes by kind of file, per case and per prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import RequestError
from ..records.record import Record
from .store import load

KINDS = ("records", "texts", "tokens", "evidence")
"""By the folder that they lie in; records lie in the suite's own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KindSize:
    """The files of one kind."""

    kind: str
    files: int
    size: int
    """Bytes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredSizes:
    """The files of a folder of baselines."""

    kinds: tuple[KindSize, ...]
    cases: int
    prompts: int
    """Rows of all records: a prompt counts once for each case and run."""

    def lines(self) -> list[str]:
        """A table; per case and prompt is over all records' rows."""
        total = sum(kind.size for kind in self.kinds)
        rows = [(kind.kind, kind.files, kind.size) for kind in self.kinds if kind.files]
        rows.append(("all", sum(kind.files for kind in self.kinds), total))
        lines = [f"{'':<9}{'files':>7}{'bytes':>12}{'per case':>11}{'per case and prompt':>21}"]
        for name, files, size in rows:
            each = size / max(self.cases, 1), size / max(self.prompts, 1)
            lines.append(f"{name:<9}{files:>7}{size:>12,}{each[0]:>11,.0f}{each[1]:>21,.1f}")
        return lines


def sizes(folder: Path) -> StoredSizes:
    """The sizes below a folder.

    Raises
    ------
    RequestError
        For a path that is no folder, or one without a record.
    BaselineError
        For a record that cannot be read.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder} is no folder; name one of baselines")
    by_kind: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for path in sorted(folder.rglob("*.json")):
        kind = path.parent.name if path.parent.name in KINDS[1:] else "records"
        by_kind[kind].append(path)
    read = (load(path, Record) for path in by_kind["records"])
    records = [record for record in read if record is not None]
    if not records:
        raise RequestError(f"{folder} holds no baseline; create some with --specdec-update=new")
    return StoredSizes(
        kinds=tuple(_size(kind, paths) for kind, paths in by_kind.items()),
        cases=len(records),
        prompts=sum(len(rows) for record in records for rows in record.runs),
    )


def _size(kind: str, paths: Sequence[Path]) -> KindSize:
    return KindSize(kind=kind, files=len(paths), size=sum(path.stat().st_size for path in paths))
