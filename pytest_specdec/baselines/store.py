"""Reading baselines, and writing them all at once and never in part."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ..acceptance.case import Case, TextKey, default_rule
from ..errors import BaselineError
from .schema import SCHEMA, EvidenceFile, Night, Record, TextSet, TokenMap, dumps

Stored = TypeVar("Stored", Record, TextSet, EvidenceFile, TokenMap)

_RENEW = "restore it from version control, or delete it and run with --specdec-update=new"
_CONFLICT = ("<<<<<<< ", "=======", ">>>>>>> ", "||||||| ")


@dataclasses.dataclass(frozen=True)
class BaselineStore:
    """A folder of baselines: `<suite>/<case>.json` and, in folders of their own, `texts/`, `tokens/` and `evidence/`."""

    folder: Path

    def record_path(self, case: Case) -> Path:
        return self.folder / case.suite / f"{case.name}.json"

    def texts_path(self, key: TextKey) -> Path:
        return self.folder / key.suite / "texts" / f"{key.name}.json"

    def tokens_path(self, case: Case, head: int) -> Path:
        rule = f"-{case.rule}" * (case.rule != default_rule(case.temperature))
        judged = f"-{case.judged.name}" if case.judged else ""
        return self.folder / case.suite / "tokens" / f"{case.label}-head{head}-{case.texts.name}{judged}{rule}.json"

    def tokens(self, case: Case, head: int) -> TokenMap | None:
        """The stored acceptance token by token, or None. Raises BaselineError for an unreadable file."""
        return load(self.tokens_path(case, head), TokenMap)

    def evidence_path(self, case: Case) -> Path:
        return self.folder / case.suite / "evidence" / f"{case.name}.json"

    def evidence(self, case: Case) -> EvidenceFile | None:
        """What was accumulated, or None where nothing was. Raises BaselineError for an unreadable file."""
        return load(self.evidence_path(case), EvidenceFile)

    def record(self, case: Case) -> Record | None:
        """The stored record, or None where there is none. Raises BaselineError for an unreadable file."""
        return load(self.record_path(case), Record)

    def texts(self, key: TextKey) -> TextSet | None:
        """The stored texts, or None where there are none. Raises BaselineError for an unreadable file."""
        return load(self.texts_path(key), TextSet)


def current_evidence(store: BaselineStore, case: Case, record: Record) -> tuple[Night, ...]:
    """The nights accumulated against this very baseline; none where they belong to another one."""
    found = store.evidence(case)
    return found.nights if found is not None and found.baseline == fingerprint(record) else ()


def fingerprint(record: Record) -> str:
    """Hash of a baseline's content."""
    return hashlib.sha256(dumps(record).encode()).hexdigest()[:16]


def load_baseline(path: str | Path) -> Record:
    """Read one baseline file. Raises BaselineError for a missing or unreadable one.

    >>> baseline = load_baseline("baselines/text/text-draft-k8-depth0-t1.json")
    >>> f"{baseline.acceptance_length:.2f}"
    '3.64'
    >>> baseline.as_counts().survival.shape
    (8,)
    """
    record = load(Path(path), Record)
    if record is None:
        raise BaselineError(f"no baseline at {path}; create it with --specdec-update=new")
    return record


def load(path: Path, kind: type[Stored]) -> Stored | None:
    """Read a stored file of one kind; None where the file is missing."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"baseline {path} cannot be read ({error}); {_RENEW}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(_CONFLICT):
            raise BaselineError(f"baseline {path}:{number} holds a merge-conflict marker; resolve the conflict or {_RENEW}")
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise BaselineError(f"baseline {path}:{error.lineno} is truncated or not JSON ({error.msg}); {_RENEW}") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        cure = "update pytest-specdec" if newer else _RENEW
        raise BaselineError(
            f"baseline {path}:{_line_of(text, 'schema')} has schema {schema!r}, this version reads {SCHEMA}; {cure}"
        )
    try:
        stored = msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise BaselineError(f"baseline {path}: {error}; {_RENEW}") from None
    if isinstance(stored, Record) and (problems := stored.problems()):
        raise BaselineError(f"baseline {path}: {'; '.join(problems[:3])}; {_RENEW}")
    return stored


def write_all(files: Mapping[Path, str] | Mapping[Path, str | bytes]) -> None:
    """Write every file or none: all are written aside first, then moved into place one by one.

    Raises BaselineError, with nothing changed, where a file cannot be written.
    """
    staged: list[tuple[str, Path]] = []
    try:
        for path in sorted(files):
            content = files[path]
            if path.is_dir():
                raise BaselineError(f"{path} is a folder and should be a file; move it away")
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            staged.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would surprise in a shared checkout
        for temporary, path in staged:
            os.replace(temporary, path)
    except OSError as error:
        raise BaselineError(f"{error.filename or path} cannot be written ({error.strerror}); check the folder") from error
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def delete_all(paths: Iterable[Path]) -> None:
    """Delete files. Raises BaselineError for the first that cannot be deleted."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise BaselineError(f"{path} cannot be deleted ({error.strerror}); check the folder") from error


def _line_of(text: str, key: str) -> int:
    return next((number for number, line in enumerate(text.splitlines(), 1) if f'"{key}"' in line), 1)
