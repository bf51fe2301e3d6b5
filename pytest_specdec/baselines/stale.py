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
from .store import BaselineStore, Stored, case_and_device, load

_SERVED = re.compile(r"-s\d+-served\b")
"""In the names of texts and tokens that belong to served targets, see `TextKey.name`."""


def stale_files(
    cases: Iterable[Case], store: BaselineStore, engine: str, repeats: int = 1
) -> list[Path]:
    """Records of this engine, evidence, texts and tokens in the cases' suites that none of the
    cases would read or write.

    `cases` are all that the suites generate, each measured at least `repeats` times. Records of
    other engines and devices are left to sessions with these, and unreadable files stay.
    """
    cases = tuple(cases)
    stale: list[Path] = []
    for suite in sorted({case.suite for case in cases}):
        members = [case for case in cases if case.suite == suite]
        wanted = {
            path
            for case in members
            for place in (store, store.shared)
            for path in (place.record_path(case), place.evidence_path(case))
        }
        folder = store.folder / suite
        for path in _files(folder, store):
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
            stale += [
                path
                for path in _files(folder / "evidence", store)
                if path not in wanted and not (folder / path.name).exists()
            ]
    return stale


def _files(folder: Path, store: BaselineStore) -> list[Path]:
    """The files of a folder, without those of other devices than the store's."""
    return [
        path
        for path in sorted(folder.glob("*.json"))
        if case_and_device(path.stem)[1] in (None, store.device)
    ]


def _beside(cases: list[Case], store: BaselineStore, folder: Path, repeats: int) -> list[Path]:
    """Texts and tokens that no case uses."""
    runs = _stored_runs(folder)
    texts = {
        store.texts_path(seeded(case, run).texts)
        for case in cases
        for run in range(max(repeats, runs.get(case.name, 1)))
    }
    tokens = {
        place.tokens_path(case, head)
        for case in cases
        for head in range(case.heads)
        for place in (store, store.shared)
    }
    stale_texts = [
        path
        for path in sorted((folder / "texts").glob("*.json"))
        if path not in texts and _readable(path, TextSet)
    ]
    return stale_texts + [
        path
        for path in _files(folder / "tokens", store)
        if path not in tokens and _readable(path, TokenMap)
    ]


def _stored_runs(folder: Path) -> dict[str, int]:
    """For each case with a record, the most runs that one of its records holds, on any device."""
    runs: dict[str, int] = {}
    for path in folder.glob("*.json"):
        if (record := _readable(path, Record)) is not None:
            name = case_and_device(path.stem)[0]
            runs[name] = max(record.repeats, runs.get(name, 1))
    return runs


def _readable(path: Path, kind: type[Stored]) -> Stored | None:
    try:
        return load(path, kind)
    except BaselineError:
        return None
