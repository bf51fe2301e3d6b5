"""Two stored baselines, or two folders of them, side by side, for the review of an update."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from ..common.errors import BaselineError
from ..common.percent import signed_percent
from ..records.case_costs import CaseCosts
from ..records.record import Record
from .store import load, load_baseline

_FOLDERS = ("texts", "tokens", "evidence")
"""Folders that hold other stored files than records."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """One case in two places; None where a place does not have it."""

    name: str
    before: Record | None
    now: Record | None

    def lines(self) -> Iterator[str]:
        """The change of the acceptance length, then what else differs."""
        if self.before is None or self.now is None:
            record = self.now or self.before
            assert record is not None
            yield (
                f"{'new' if self.before is None else 'gone'}  {self.name}: "
                f"{record.as_counts().acceptance_length:.4f}"
            )
            return
        before, now = self.before.as_counts(), self.now.as_counts()
        change = now.acceptance_length / before.acceptance_length - 1
        lengths = f"{before.acceptance_length:.4f} -> {now.acceptance_length:.4f}"
        yield f"changed  {self.name}: {lengths} ({signed_percent(change)})"
        for part in ("conditions", "fingerprints", "environment"):
            yield from _fields(getattr(self.before, part), getattr(self.now, part))
        yield from _costs(self.before.costs, self.now.costs)
        if self.before.definition != self.now.definition:
            yield f"  definition: {self.before.definition} -> {self.now.definition}"
        if self.before.repeats != self.now.repeats:
            yield f"  repeats: {self.before.repeats} -> {self.now.repeats}"
        yield from _prompts(self.before, self.now)
        yield from _history(self.before, self.now)


def differences(before: Path, now: Path) -> list[Difference]:
    """Every case whose record differs, by name. Both are files, or both folders.

    Raises BaselineError for a missing or unreadable file, and for a file and a folder.
    """
    for path in (before, now):
        if not path.exists():
            raise BaselineError(f"no baseline at {path}; name a baseline file, or a folder of them")
    if before.is_dir() != now.is_dir():
        raise BaselineError(
            f"{before} and {now} are a folder and a file; name two files or two folders"
        )
    if not before.is_dir():
        pairs = [Difference(name=now.stem, before=load_baseline(before), now=load_baseline(now))]
    else:
        names = sorted({*record_names(before), *record_names(now)})
        pairs = [
            Difference(
                name=name,
                before=load(before / f"{name}.json", Record),
                now=load(now / f"{name}.json", Record),
            )
            for name in names
        ]
        if not names:
            raise BaselineError(
                f"neither {before} nor {now} holds a baseline; name the folders that do"
            )
    return [pair for pair in pairs if pair.before != pair.now]


def record_names(folder: Path) -> Iterator[str]:
    """The records below a folder, as paths without their ending."""
    for path in folder.rglob("*.json"):
        if path.parent.name not in _FOLDERS:
            yield str(path.relative_to(folder).with_suffix(""))


def _costs(before: CaseCosts | None, now: CaseCosts | None) -> Iterator[str]:
    if before is None or now is None:
        if before != now:
            yield (
                f"  costs: {'none' if before is None else 'some'} -> "
                f"{'none' if now is None else 'some'}"
            )
        return
    yield from _fields(before, now)


def _fields(before: object, now: object) -> Iterator[str]:
    for name in before.__struct_fields__:  # type: ignore[attr-defined]
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            yield f"  {name}: {old} -> {new}"


def _history(before: Record, now: Record) -> Iterator[str]:
    """The baselines before this one, and how far it is below the best of them."""
    if before.replaced and not now.replaced:
        yield f"  replaced: {len(before.replaced)} earlier baselines forgotten"
    if not now.replaced:
        return
    yield "  replaced: " + ", ".join(known.describe() for known in now.replaced)
    erosion = now.eroded_by(1.0)
    if erosion.notable:
        yield f"  erosion: {erosion.describe()}"


def _prompts(before: Record, now: Record) -> Iterator[str]:
    fresh = len(set(now.counts) - set(before.counts))
    gone = len(set(before.counts) - set(now.counts))
    if fresh or gone:
        yield f"  prompts: {fresh} new, {gone} gone"
    texts = sum(
        before.counts[key].text != row.text
        for key, row in now.counts.items()
        if key in before.counts
    )
    if texts:
        yield f"  texts: {texts} of {len(now.counts)} sampled again"
