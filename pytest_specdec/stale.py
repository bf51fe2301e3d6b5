"""Stored files that no test asks for any more; only a run of whole suites can tell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .acceptance.case import Case
from .baselines.schema import Record
from .baselines.store import BaselineStore, load
from .errors import BaselineError
from .seeds import seeded


def stale_files(cases: Iterable[Case], store: BaselineStore, engine: str) -> list[Path]:
    """Records of this engine, evidence and texts in the cases' suites that none of the cases would read or write.

    `cases` are all that the suites generate. Records of other engines are theirs to judge, and unreadable files stay.
    """
    cases = tuple(cases)
    stale: list[Path] = []
    for suite in sorted({case.suite for case in cases}):
        own = [case for case in cases if case.suite == suite]
        wanted = {store.record_path(case) for case in own} | {store.evidence_path(case) for case in own}
        folder = store.folder / suite
        for path in sorted(folder.glob("*.json")):
            if path not in wanted and _engine_of(path) == engine:
                stale += [path, *filter(Path.is_file, [folder / "evidence" / path.name])]
        if engine == "replay":
            wanted = {store.texts_path(seeded(case, run).texts) for case in own for run in range(_repeats(case, store))}
            wanted |= {store.tokens_path(case, head) for case in own for head in range(case.heads)}
            beside = [path for name in ("texts", "tokens") for path in sorted((folder / name).glob("*.json"))]
            stale += [path for path in beside if path not in wanted]
    return stale


def _repeats(case: Case, store: BaselineStore) -> int:
    try:
        record = store.record(case)
    except BaselineError:
        return 1
    return 1 if record is None else record.repeats


def _engine_of(path: Path) -> str | None:
    try:
        record = load(path, Record)
    except BaselineError:
        return None
    return None if record is None else record.conditions.engine
