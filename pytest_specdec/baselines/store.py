"""Reads baselines. How they are written as a set is in `update`."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..cases.case import Case, TextKey, default_rule
from ..common.bounded_files import read_text
from ..common.errors import BaselineError
from ..common.strict_json import JsonError, parse_json
from ..config.options import DEVICES, DTYPES
from ..records.accumulated import AccumulatedRun
from ..records.prompt_counts import PromptCounts
from ..records.ranges import TokenId
from ..records.record import SCHEMA, Record
from ..records.text_set import TextSet
from .evidence_and_tokens import READABLE, EvidenceFile, TokenMap, TokenRow
from .identities import problems_of
from .update import refuse_unfinished
from .writing import DIGEST, digest_of, dumps

Stored = TypeVar("Stored", Record, TextSet, EvidenceFile, TokenMap)

_RENEW = "restore it from version control, or delete it and run with --specdec-update=new"
_DIGITS = 64
"""Length of the longest digest that a message repeats."""
_AT = "@"
_DEVICES = {f"{device}-{dtype}" for device in DEVICES if device != "auto" for dtype in DTYPES}
_CONFLICT = ("<<<<<<< ", "=======", ">>>>>>> ", "||||||| ")


@dataclasses.dataclass(frozen=True)
class BaselineStore:
    """A folder of baselines: `<suite>/<case>.json` and, in folders of their own, `texts/`,
    `tokens/` and `evidence/`.

    Of a device and dtype with baselines of their own the files are `<case>@<device>-<dtype>.json`,
    and so are tokens and evidence; texts are shared by all.
    """

    folder: Path
    device: str | None = None
    """`cuda-bfloat16` where this device and dtype have baselines of their own."""
    falls_back: bool = True
    """Whether a case without a record of its own for the device has the one that all share."""

    @property
    def shared(self) -> BaselineStore:
        """The same folder, with the baselines that all devices share."""
        return BaselineStore(self.folder)

    def in_force(self, case: Case) -> BaselineStore:
        """The store that holds the baseline of a case: this one or, where the case has no record of
        its own for the device, the shared one.
        """
        if self.device is None or not self.falls_back or self.record_path(case).exists():
            return self
        return self.shared if self.shared.record_path(case).exists() else self

    def has_record(self, case: Case) -> bool:
        """Whether a case has a baseline, its own or the shared one."""
        return self.in_force(case).record_path(case).exists()

    def _file(self, stem: str) -> str:
        return f"{stem}.json" if self.device is None else f"{stem}{_AT}{self.device}.json"

    def record_path(self, case: Case) -> Path:
        """Where a record of a case is written."""
        return self.folder / case.suite / self._file(case.name)

    def texts_path(self, key: TextKey) -> Path:
        return self.folder / key.suite / "texts" / f"{key.name}.json"

    def tokens_path(self, case: Case, head: int) -> Path:
        rule = f"-{case.rule}" * (case.rule != default_rule(case.temperature))
        judged = f"-{case.judged.name}" if case.judged else ""
        drafting = f"-{case.drafting.name}" * (not case.drafting.as_target)
        stem = f"{case.label}-head{head}-{case.texts.name}{drafting}{judged}{rule}"
        return self.folder / case.suite / "tokens" / self._file(stem)

    def tokens(self, case: Case, head: int) -> TokenMap | None:
        """The stored acceptance token by token, or None. Raises BaselineError for an unreadable
        file.
        """
        return load(self.tokens_path(case, head), TokenMap)

    def evidence_path(self, case: Case) -> Path:
        return self.folder / case.suite / "evidence" / self._file(case.name)

    def evidence(self, case: Case) -> EvidenceFile | None:
        """What was accumulated, or None where nothing was. Raises BaselineError for an unreadable
        file.
        """
        return load(self.evidence_path(case), EvidenceFile)

    def record(self, case: Case) -> Record | None:
        """The stored record, its own or the shared one, or None where there is neither. Raises
        BaselineError for an unreadable file or the record of another case.
        """
        path = self.in_force(case).record_path(case)
        record = load(path, Record)
        if record is not None and record.case not in ("", case.name):
            raise BaselineError(f"baseline {path} belongs to case {record.case}; {_RENEW}")
        return record

    def texts(self, key: TextKey) -> TextSet | None:
        """The stored texts, or None where there are none. Raises BaselineError for an unreadable
        file or other settings.
        """
        path = self.texts_path(key)
        texts = load(path, TextSet)
        if texts is None:
            return None
        for name in ("temperature", "top_k", "top_p", "new_tokens", "seed"):
            stored, wanted = getattr(texts, name), getattr(key, name)
            if stored != wanted:
                raise BaselineError(
                    f"baseline {path} holds texts of {name} {stored}, but its file name means "
                    f"{wanted}; {_RENEW}"
                )
        if texts.processors != key.processors_name:
            raise BaselineError(
                f"baseline {path} holds texts of other logits processors than its file name means; "
                f"{_RENEW}"
            )
        return texts


def case_and_device(stem: str) -> tuple[str, str | None]:
    """The name of a case and the device of a file, from its name without the ending.

    >>> case_and_device("draft-k8-depth0-t1@cuda-bfloat16")
    ('draft-k8-depth0-t1', 'cuda-bfloat16')
    >>> case_and_device("draft@2-k8-depth0-t1")
    ('draft@2-k8-depth0-t1', None)
    """
    name, mark, device = stem.rpartition(_AT)
    return (name, device) if mark and device in _DEVICES else (stem, None)


def current_evidence(
    store: BaselineStore, case: Case, record: Record
) -> tuple[AccumulatedRun, ...]:
    """The runs accumulated against this very baseline; none where they belong to another one."""
    evidence = store.evidence(case)
    current = evidence is not None and evidence.baseline == fingerprint(record)
    return evidence.runs if evidence is not None and current else ()


def fingerprint(record: Record) -> str:
    """Hash of a baseline's content, without the baselines before it: they have no part in a
    comparison, so evidence against it stays valid where they are forgotten.
    """
    alone = msgspec.structs.replace(record, replaced=())
    return hashlib.sha256(dumps(alone).encode()).hexdigest()[:16]


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
    """Read a stored file of one kind; None where the file is missing.

    Raises BaselineError, with the file and the line, for a file that cannot be read, does not match
    its own digest, holds numbers that no measurement yields, or lies beside an unfinished update.
    """
    refuse_unfinished(path)
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineError(f"baseline {path} cannot be read ({error}); {_RENEW}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(_CONFLICT):
            raise BaselineError(
                f"baseline {path}:{number} holds a merge-conflict marker; resolve the conflict or "
                f"{_RENEW}"
            )
    try:
        data = parse_json(text)
    except JsonError as error:
        raise BaselineError(
            f"baseline {path}:{error.line} is truncated or not JSON ({error.problem}); {_RENEW}"
        ) from None
    _check_origin(path, text, data)
    try:
        stored = msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise BaselineError(
            f"baseline {path}:{_line_of_path(text, data, str(error))}: {error}; {_RENEW}"
        ) from None
    if problems := problems_of(stored):
        words = "; ".join(problem for _, problem in problems[:3])
        raise BaselineError(f"baseline {path}:{_line_of(text, problems[0][0])}: {words}; {_RENEW}")
    return stored


def _check_origin(path: Path, text: str, data: Any) -> None:
    """Refuse another schema, and content that is not what was written; takes the digest out of
    `data`.
    """
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema not in READABLE:
        newer = isinstance(schema, int) and schema > SCHEMA
        cure = "update pytest-specdec" if newer else _RENEW
        raise BaselineError(
            f"baseline {path}:{_line_of(text, 'schema')} has schema {repr(schema)[:40]}, this "
            f"version reads up to {SCHEMA}; {cure}"
        )
    if schema == 1:
        return
    digest = data.pop(DIGEST, None)
    if digest != digest_of(data):
        digest = digest if isinstance(digest, str) and len(digest) <= _DIGITS else None
        raise BaselineError(
            f"baseline {path}:{_line_of(text, DIGEST)}: the content is not what was written "
            f"(digest {digest!r}, expected "
            f"{digest_of(data)!r}): it was edited, merged by hand or taken from another file; "
            f"{_RENEW}"
        )


def _line_of(text: str, key: str) -> int:
    """The line that begins with a key, from 1; 1 where none does."""
    return _find_line(text, key) or 1


def _find_line(text: str, key: str) -> int | None:
    name = f"{json.dumps(key)}:"
    lines = enumerate(text.splitlines(), 1)
    return next((number for number, line in lines if line.lstrip().startswith(name)), None)


def _line_of_path(text: str, data: Any, complaint: str) -> int:
    """The line of a value that msgspec complains about, by the path at the end of its message."""
    _, _, where = complaint.rpartition(" - at `")
    path = re.sub(r"\[[^\]]*\]", "", where.rstrip("`").lstrip("$."))
    names = [name for name in path.split(".") if name]
    row = _wrong_row(data, names[0]) if names else None
    keys = [row] if row is not None else [*reversed(names), "schema"]
    return next((line for key in keys if (line := _find_line(text, key)) is not None), 1)


def _wrong_row(data: Mapping[str, Any], field: str) -> str | None:
    """The prompt whose row has the wrong shape; msgspec's path does not name it."""
    kinds: dict[str, Any] = {
        "counts": PromptCounts,
        "texts": tuple[TokenId, ...],
        "tokens": TokenRow,
    }
    rows = data.get(field)
    if field not in kinds or not isinstance(rows, dict):
        return None
    return next((key for key, row in rows.items() if not _converts(row, kinds[field])), None)


def _converts(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def write_all(files: Mapping[Path, str] | Mapping[Path, str | bytes]) -> None:
    """Write reports and other files that stand alone: all are written aside first, then moved
    into place one by one. Stored sets of baselines are written by `update`.

    Raises BaselineError, with nothing changed, where a file cannot be written.
    """
    staged: list[tuple[str, Path]] = []
    try:
        for path in sorted(files):
            content = files[path]
            if path.is_dir():
                raise BaselineError(f"{path} is a folder where a file must be; move it away")
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            staged.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            os.chmod(temporary, 0o644)  # mkstemp's 0600 would surprise in a shared checkout
        for temporary, path in staged:
            os.replace(temporary, path)
    except OSError as error:
        raise BaselineError(
            f"{error.filename or path} cannot be written ({error.strerror}); check the folder"
        ) from error
    finally:
        for temporary, _ in staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
