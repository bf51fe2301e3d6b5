"""Rewrites stored files of an older schema: nothing is measured again, and no count changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from ..common.errors import BaselineError
from ..records.record import SCHEMA, Record
from ..records.text_set import TextSet
from .evidence_and_tokens import EvidenceFile, TokenMap
from .store import case_and_device, fingerprint, load
from .writing import dumps

AnyStored = Record | TextSet | EvidenceFile | TokenMap


def migrated(folder: Path) -> dict[Path, str]:
    """The new content of every stored file below a folder that is of an older schema.

    Raises BaselineError for a missing folder, and for a file that cannot be read: then nothing
    should be written.
    """
    if not folder.is_dir():
        raise BaselineError(f"no folder at {folder}; name the one that holds the baselines")
    contents: dict[Path, str] = {}
    for path in sorted(folder.rglob("*.json")):
        if (stored := _read(path)).schema < SCHEMA:
            contents[path] = dumps(_rewritten(path, stored))
    return contents


def _read(path: Path) -> AnyStored:
    beside: dict[str, Callable[[], AnyStored | None]] = {
        "texts": lambda: load(path, TextSet),
        "tokens": lambda: load(path, TokenMap),
        "evidence": lambda: load(path, EvidenceFile),
    }
    stored = beside.get(path.parent.name, lambda: load(path, Record))()
    assert stored is not None
    return stored


def _rewritten(path: Path, stored: AnyStored) -> AnyStored:
    if isinstance(stored, Record):
        return _record(path, stored)
    if isinstance(stored, EvidenceFile):
        return _evidence(path, stored)
    return msgspec.structs.replace(stored, schema=SCHEMA)


def _record(path: Path, record: Record) -> Record:
    return msgspec.structs.replace(
        record,
        schema=SCHEMA,
        case=case_and_device(path.stem)[0],
        seed=_seed(path.parent / "texts", record),
    )


def _seed(folder: Path, record: Record) -> int | None:
    """The seed of the only stored texts that can be the record's; None where there are none, or
    several.
    """
    conditions, seeds = record.conditions, set()
    for path in folder.glob("*.json"):
        texts = load(path, TextSet)
        assert texts is not None
        same = all(
            getattr(texts, name) == getattr(conditions, name)
            for name in ("new_tokens", "temperature", "top_k", "top_p")
        )
        if (
            same
            and texts.target == record.fingerprints.target
            and texts.texts.keys() >= record.counts.keys()
        ):
            seeds.add(texts.seed)
    return min(seeds) if len(seeds) == record.repeats else None


def _evidence(path: Path, evidence: EvidenceFile) -> EvidenceFile:
    """Evidence against a record stays valid: it gets the hash of the rewritten record."""
    of = path.parent.parent / path.name
    record = load(of, Record)
    same = (
        record is not None and record.schema < SCHEMA and fingerprint(record) == evidence.baseline
    )
    baseline = (
        fingerprint(_record(of, record)) if same and record is not None else evidence.baseline
    )
    return msgspec.structs.replace(evidence, schema=SCHEMA, baseline=baseline)
