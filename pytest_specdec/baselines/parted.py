"""Records that an update parts from their texts: cases share texts, and those of a changed target
replace the old target's for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from ..cases.case import REPLAYING, Sampling, settings_name, texts_name
from ..common.bounded_files import read_bytes
from ..common.display import short
from ..records.conditions import Conditions, Fingerprints
from .seen_files import suite_of

Files = Mapping[Path, str]
"""Contents by path, in stored form."""
_NAMED = 3
"""Records that a message names."""


class _Record(msgspec.Struct):
    """What a record says of its texts."""

    conditions: Conditions
    fingerprints: Fingerprints
    repeats: int
    seed: int | None = None


class _Texts(msgspec.Struct):
    """Whose texts they are."""

    target: str


Kind = TypeVar("Kind", _Record, _Texts)


def parted_by(files: Files) -> dict[Path, list[Path]]:
    """Records whose stored texts are those of another target once `files` are written, and not yet
    before; by the path of the texts.

    A record that is new among texts of another target is one of them. Unreadable files are left
    out.
    """
    parted: dict[Path, list[Path]] = {}
    for folder in sorted({suite_of(path) for path in files}):
        records = {path for path in files if path.parent == folder} | set(folder.glob("*.json"))
        for record in sorted(records):
            before = set(_foreign_texts(record, {}))
            for texts in _foreign_texts(record, files):
                if texts not in before:
                    parted.setdefault(texts, []).append(record)
    return parted


def parted_notes(parted: Mapping[Path, Sequence[Path]]) -> list[str]:
    """What to say of the records that an update parts from their texts."""
    return [
        f"{short(texts)} holds texts of one target, and {_counted(records)} measured on texts of "
        f"another: {_named(records)}; a change of the target is judged there on fresh texts alone, "
        "which show large drops only; update all cases that share these texts in one run, or "
        "restore the folder from version control"
        for texts, records in parted.items()
    ]


def _counted(records: Sequence[Path]) -> str:
    return "1 baseline was" if len(records) == 1 else f"{len(records)} baselines were"


def _named(records: Sequence[Path]) -> str:
    """A few by name."""
    names = [path.stem for path in records[:_NAMED]]
    return ", ".join(names) + (", ..." if len(records) > _NAMED else "")


def _foreign_texts(path: Path, files: Files) -> Iterator[Path]:
    """The texts of a record's settings and seeds that are those of another target."""
    record = _read(path, files, _Record)
    if record is None:
        return
    for texts in _texts_of(path.parent, record):
        stored = _read(texts, files, _Texts)
        if stored is not None and stored.target != record.fingerprints.target:
            yield texts


def _texts_of(folder: Path, record: _Record) -> Iterator[Path]:
    """Where the texts of each run of a record are stored; none of engines that store none."""
    conditions = record.conditions
    if (
        conditions.engine not in REPLAYING
        or conditions.temperature is None
        or conditions.new_tokens is None
        or record.seed is None
    ):
        return
    for run in range(record.repeats):
        sampling = Sampling(
            conditions.temperature,
            conditions.top_k or 0,
            1.0 if conditions.top_p is None else conditions.top_p,
        )
        name = texts_name(
            settings_name(
                sampling,
                conditions.processors,
                conditions.target_name,
                conditions.template_flags,
            ),
            conditions.new_tokens,
            record.seed + run,
            served=conditions.engine == "logprobs",
        )
        yield folder / "texts" / f"{name}.json"


def _read(path: Path, files: Files, kind: type[Kind]) -> Kind | None:
    """A part of a file as it will be; None for one that is missing or cannot be read."""
    try:
        content = files[path] if path in files else read_bytes(path)
        return msgspec.json.decode(content, type=kind)
    except (OSError, msgspec.DecodeError):
        return None
