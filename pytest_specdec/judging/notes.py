"""Notes on a case's baseline for readers of a report, for any verdict."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..cases.case import Case
from ..cases.prompts import read_prompts
from ..common.display import short
from ..gate.verdict import Verdict
from ..records.record import SCHEMA, Record
from ..records.replaced import Erosion
from .messages import forget_command
from .policy import Policy
from .report_rows import UPDATED

OLD_BASELINES = "baselines of an older schema, which hold neither case nor digest"


def notes_on(
    case: Case,
    record: Record | None,
    policy: Policy,
    *,
    path: Path,
    device: str | None,
    verdict: Verdict | None,
    warning: str | None,
    folder: Path,
) -> list[str]:
    """Notes on a case, a sentence each; `folder` holds the baselines, `path` is the case's,
    `device` the one that uses the shared baseline because it has none of its own, `warning` is
    about a new one.
    """
    notes = []
    if record is not None and record.schema < SCHEMA and not policy.rewrites:
        migrate = f"python -m pytest_specdec baseline migrate {short(folder)}"
        notes.append(f"{OLD_BASELINES}; rewrite them with: {migrate}")
    if record is not None and device is not None:
        notes.append(_on_shared(device, () if verdict is None else verdict.changed))
    if warning is not None:
        notes.append(warning)
    if verdict is not None and verdict.erosion is not None:
        notes.append(_on_erosion(case, verdict.erosion, path, updated=verdict.reason == UPDATED))
    if policy.subset:
        measured, total = (
            len(read_prompts(case.texts.prompts, limit))
            for limit in (case.texts.prompt_limit, None)
        )
        if measured != total:
            unjudged = "" if case.erosion is None else "; erosion is judged on all of them only"
            notes.append(
                f"suite {case.suite}: measured {measured} of {total} prompts (--specdec-prompts)"
                f"{unjudged}"
            )
    return notes


def _on_shared(device: str, changed: Iterable[str]) -> str:
    elsewhere = ", ".join(change for change in changed if change.startswith("environment"))
    return (
        f"{device} has no baseline of its own, so the one that all devices share was used"
        + f" in another {elsewhere}" * bool(elsewhere)
        + "; --specdec-update=new creates one"
    )


def _on_erosion(case: Case, erosion: Erosion, path: Path, *, updated: bool) -> str:
    note = f"{case.id}: {erosion.describe()}"
    if not (updated and erosion.reaches(case.erosion)):
        return note
    return (
        f"{note}, which still fails the updated baseline (--specdec-erosion); to accept it: "
        f"{forget_command(path)}"
    )
