"""How stored files are written, and the digest that ties each to its own content.

JSON with sorted keys and no timestamps, one prompt a line, so that a change of one prompt is a diff
of one line, and one more for the digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..records.record import Record
from ..records.text_set import TextSet
from .evidence_and_tokens import EvidenceFile, TokenMap

DIGEST = "digest"
"""The field that holds the digest of all others, in files of schema 2 and later."""


def dumps(stored: Record | TextSet | EvidenceFile | TokenMap) -> str:
    """Canonical JSON: sorted keys, the digest of all else, and one line for each prompt."""
    body: dict[str, Any] = msgspec.to_builtins(stored)
    for field in msgspec.structs.fields(stored):
        name = field.encode_name
        if name in body and body[name] in (field.default, []):
            del body[name]
    if stored.schema > 1:
        body[DIGEST] = digest_of(json.loads(_written(dict(body))))
    return _written(body)


def digest_of(data: Mapping[str, Any]) -> str:
    """Hash of a stored file's values, whatever their order and white space; its own digest is left
    out.
    """
    content = {name: value for name, value in data.items() if name != DIGEST}
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()[:16]


def _written(body: dict[str, Any]) -> str:
    written = {name: _WRITERS[name](body.pop(name), "  ") for name in _WRITERS if name in body}
    parts = [json.dumps(body, indent=2, sort_keys=True)[2:-2]]
    parts += [f'  "{name}": {text}' for name, text in written.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _rows(rows: Mapping[str, Any], indent: str) -> str:
    """Prompts one a line."""
    return _wrapped(
        [
            f"{json.dumps(key)}: {json.dumps(_compact(rows[key]), sort_keys=True)}"
            for key in sorted(rows)
        ],
        "{}",
        indent,
    )


def _lines(items: Sequence[Mapping[str, Any]], indent: str) -> str:
    """Objects one a line."""
    lines = [json.dumps(_compact(item), sort_keys=True) for item in items]
    return _wrapped(lines, "[]", indent)


def _runs(runs: Sequence[Mapping[str, Any]], indent: str) -> str:
    return _wrapped([_rows(rows, indent + "  ") for rows in runs], "[]", indent)


def _accumulated(runs: Sequence[Mapping[str, Any]], indent: str) -> str:
    return _wrapped([_accumulated_run(run, indent + "  ") for run in runs], "[]", indent)


def _accumulated_run(run: Mapping[str, Any], indent: str) -> str:
    fields = {
        name: json.dumps(item, sort_keys=True) for name, item in run.items() if name != "counts"
    }
    fields["counts"] = _rows(run["counts"], indent + "  ")
    return _wrapped([f'"{name}": {fields[name]}' for name in sorted(fields)], "{}", indent)


_WRITERS: dict[str, Callable[[Any, str], str]] = {
    "replaced": _lines,
    "counts": _rows,
    "again": _runs,
    "texts": _rows,
    "logprobs": _rows,
    "tokens": _rows,
    "nights": _accumulated,
}
"""The fields that hold prompts or earlier baselines, in the order in which they end a file, and how
each is written.
"""


def _wrapped(items: list[str], brackets: str, indent: str) -> str:
    body = ",\n".join(f"{indent}  {item}" for item in items)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}" if items else brackets


def _compact(value: Any) -> Any:
    """Without absent fields, and whole counts as integers, so that greedy baselines read as
    counts.
    """
    if isinstance(value, dict):
        return {name: _compact(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_compact(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
