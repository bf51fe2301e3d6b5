"""Notes on a case's baseline for readers of a report, for any verdict."""

from __future__ import annotations

from pathlib import Path

from ..cases.case import Case
from ..cases.prompts import read_prompts
from ..common.display import short
from ..records.record import SCHEMA, Record
from .policy import Policy

OLD_BASELINES = "baselines of an older schema, which hold neither case nor digest"


def notes_on(
    case: Case, record: Record | None, policy: Policy, *, folder: Path, warning: str | None
) -> list[str]:
    """Notes on a case, a sentence each; `folder` holds the baselines, `warning` is about a new
    one.
    """
    notes = []
    if record is not None and record.schema < SCHEMA and not policy.rewrites:
        migrate = f"python -m pytest_specdec baseline migrate {short(folder)}"
        notes.append(f"{OLD_BASELINES}; rewrite them with: {migrate}")
    if warning is not None:
        notes.append(warning)
    if policy.subset:
        measured, total = (
            len(read_prompts(case.texts.prompts, limit))
            for limit in (case.texts.prompt_limit, None)
        )
        if measured != total:
            notes.append(
                f"suite {case.suite}: measured {measured} of {total} prompts (--specdec-prompts)"
            )
    return notes
