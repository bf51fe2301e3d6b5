"""Stored files that no test uses any more; only a run of whole suites can find them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..cases.case import REPLAYING, Case
from ..common.errors import BaselineError
from ..records.record import Record
from ..records.text_set import TextSet
from .evidence_and_tokens import TokenMap
from .repeats import seeded
from .store import BaselineStore, Stored, load

_SERVED = re.compile(r"-s\d+-served\b")
"""In the names of texts and tokens that belong to served targets, see `TextKey.name`."""


def stale_files(
    cases: Iterable[Case], store: BaselineStore, engine: str, repeats: int = 1
) -> list[Path]:
    """Records of this engine, evidence, texts and tokens in the cases' suites that none of the
    cases would read or write.

    `cases` are all that the suites generate, each measured at least `repeats` times. Records of
    other engines are left to sessions with these engines, and unreadable files stay.
    """
    cases = tuple(cases)
    stale: list[Path] = []
    for suite in sorted({case.suite for case in cases}):
        members = [case for case in cases if case.suite == suite]
        wanted = {store.record_path(case) for case in members} | {
            store.evidence_path(case) for case in members
        }
        folder = store.folder / suite
        for path in sorted(folder.glob("*.json")):
            record = _readable(path, Record)
            if path not in wanted and record is not None and record.conditions.engine == engine:
                stale += [path, *filter(Path.is_file, [folder / "evidence" / path.name])]
        if engine in REPLAYING:
            served = members[0].texts.served
            stale += [
                path
                for path in _beside(members, store, folder, repeats)
                if bool(_SERVED.search(path.stem)) == served
            ]
            evidence = sorted((folder / "evidence").glob("*.json"))
            stale += [
                path
                for path in evidence
                if path not in wanted and not (folder / path.name).exists()
            ]
    return stale


def _beside(cases: list[Case], store: BaselineStore, folder: Path, repeats: int) -> list[Path]:
    """Texts and tokens that no case uses."""
    texts = {
        store.texts_path(seeded(case, run).texts)
        for case in cases
        for run in range(_runs(case, store, repeats))
    }
    tokens = {store.tokens_path(case, head) for case in cases for head in range(case.heads)}
    stale_texts = [
        path
        for path in sorted((folder / "texts").glob("*.json"))
        if path not in texts and _readable(path, TextSet)
    ]
    return stale_texts + [
        path
        for path in sorted((folder / "tokens").glob("*.json"))
        if path not in tokens and _readable(path, TokenMap)
    ]


def _runs(case: Case, store: BaselineStore, repeats: int) -> int:
    record = _readable(store.record_path(case), Record)
    return repeats if record is None else max(repeats, record.repeats)


def _readable(path: Path, kind: type[Stored]) -> Stored | None:
    try:
        return load(path, kind)
    except BaselineError:
        return None
