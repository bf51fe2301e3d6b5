"""Texts already scored by a served model, one a line of a JSONL file, so that a run that died
continues where it stopped.

The first line says which server and model the rows are of; a file of another model is refused,
never mixed. A last line that a crash cut short is dropped; any other damage is an error.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec

from ...cases.texts import Text
from ...common.bounded_files import read_bytes
from ...common.errors import RequestError
from ...common.strict_json import JsonError, parse_json
from ..servers.scorer import ScoredText, Scorer

_SCHEMA = 1
_MOST = 1 << 31
"""Bytes of a file of scores."""


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: int
    url: str
    dialect: str
    model: str
    """All that the server reports about its model."""
    top: int


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompt: str
    text: str
    first: int
    logprobs: list[float | None] = msgspec.field(name="own")
    """None is minus infinity, which JSON cannot say."""
    best: list[int | None]
    top: list[list[float | None]]

    @classmethod
    def of(cls, text: Text, scored: ScoredText) -> _Row:
        logprobs, top = (
            list(map(_finite, scored.logprobs)),
            [list(map(_finite, row)) for row in scored.top],
        )
        return cls(text.key, text.fingerprint, scored.first, logprobs, list(scored.best), top)

    def problem(self) -> str | None:
        """Why no server can have sent this row; None where one can."""
        if not len(self.logprobs) == len(self.best) == len(self.top):
            return "a row of unequal lists"
        values = [value for row in (self.logprobs, *self.top) for value in row if value is not None]
        return "a log-probability above 0" if any(value > 0 for value in values) else None

    @property
    def scored(self) -> ScoredText:
        logprobs, top = (
            tuple(map(_infinite, self.logprobs)),
            tuple(tuple(map(_infinite, row)) for row in self.top),
        )
        return ScoredText(first=self.first, logprobs=logprobs, best=tuple(self.best), top=top)


class ScoreCache:
    """One file of one served model's scores. Rows are kept by prompt, text and first position."""

    def __init__(self, path: Path, scorer: Scorer) -> None:
        """Open or begin the file. Raises RequestError for one of another model, or one that is
        damaged.
        """
        self._path, self._lock = path, threading.Lock()
        self._head = _Head(
            _SCHEMA, scorer.client.url, scorer.dialect, scorer.model.identity, scorer.top
        )
        self._rows: dict[tuple[str, str, int], ScoredText] = {}
        if path.exists():
            self._read()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._append(self._head, mode="xb")

    @property
    def kept(self) -> int:
        """Texts whose scores it holds."""
        return len(self._rows)

    def get(self, text: Text) -> ScoredText | None:
        """What was served for a text, from its first draft on."""
        return self._rows.get((text.key, text.fingerprint, text.first_draft))

    def put(self, text: Text, scored: ScoredText) -> None:
        """Keep a text's scores, on disk before this returns; safe to call from several threads."""
        with self._lock:
            self._append(_Row.of(text, scored), mode="ab")
            self._rows[text.key, text.fingerprint, scored.first] = scored

    def finish(self) -> None:
        """Delete the file: after a complete run, the next one measures again, because other models
        may be served then.
        """
        self._path.unlink(missing_ok=True)

    def _append(self, line: _Head | _Row, mode: str) -> None:
        try:
            with self._path.open(mode) as file:
                file.write(msgspec.json.encode(line) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RequestError(
                f"{self._path} cannot be written ({error.strerror}); make room or name another "
                "folder"
            ) from None

    def _read(self) -> None:
        raw = read_bytes(self._path, _MOST)
        whole, _, cut = raw.rpartition(b"\n")
        if cut:
            # A crash while a row was being written: continue after the last whole one.
            os.truncate(self._path, len(raw) - len(cut))
        lines = whole.split(b"\n") if whole else []
        if not lines:
            self._append(self._head, mode="wb")
            return
        try:
            head = msgspec.convert(parse_json(lines[0].decode()), _Head)
            rows = [msgspec.convert(parse_json(line.decode()), _Row) for line in lines[1:]]
        except (JsonError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise RequestError(
                f"{self._path} is damaged ({error}); delete it to score its texts again"
            ) from None
        if head != self._head:
            raise RequestError(
                f"{self._path} holds scores of {_difference(head, self._head)}; delete it or name "
                "another folder"
            )
        for row in rows:
            if problem := row.problem():
                raise RequestError(
                    f"{self._path} is damaged ({problem}); delete it to score its texts again"
                )
            self._rows[row.prompt, row.text, row.first] = row.scored


def _difference(stored: _Head, now: _Head) -> str:
    names = [
        name for name in stored.__struct_fields__ if getattr(stored, name) != getattr(now, name)
    ]
    return "; ".join(
        f"another {name} ({getattr(stored, name)}, now {getattr(now, name)})" for name in names
    )


def _finite(value: float) -> float | None:
    return None if value == float("-inf") else value


def _infinite(value: float | None) -> float:
    return float("-inf") if value is None else value
