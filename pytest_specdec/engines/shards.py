"""A session's work divided among processes that know nothing of each other: each does its share and
leaves a part; a session over all parts puts them together. Shares are whole units, so every number
is computed as one process computes it.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..cases.shard import Shard
from ..common.errors import MeasurementError, RequestError
from .executor import LocalExecutor, ResultT, SharedOutError, Work
from .models import ModelPool
from .part_files import SCHEMA, PartHeader, ShardPart, WorkResults, decoded, encoded


class ShardExecutor:
    """Does one shard's share, and keeps the results."""

    def __init__(self, shard: Shard, models: ModelPool) -> None:
        self._shard, self._here = shard, LocalExecutor(models)
        self.work: dict[str, WorkResults] = {}

    def results(self, work: Work[ResultT]) -> Iterator[tuple[int, ResultT]]:
        """All results of work that every process does. Raises SharedOutError for other work, once
        the share of it is done.
        """
        total = len(work.sizes)
        if work.name not in self.work:
            units = range(total) if work.everywhere else self._shard.units(total)
            done = {unit: encoded(result) for unit, result in self._here.chosen(work, units)}
            self.work[work.name] = WorkResults(
                units=total, everywhere=work.everywhere, results=done
            )
        if not work.everywhere:
            raise SharedOutError(
                f"shard {self._shard} measures a share and judges nothing; put all parts together "
                "with python -m pytest_specdec merge"
            )
        for unit, stored in self.work[work.name].results.items():
            yield unit, decoded(stored, work.result)


class PartExecutor:
    """The results of all parts, in the place of any work."""

    def __init__(self, parts: Sequence[ShardPart]) -> None:
        self._parts = parts

    def results(self, work: Work[ResultT]) -> Iterator[tuple[int, ResultT]]:
        """In order. Raises MeasurementError for work that the parts did not do."""
        found = [part.work[work.name] for part in self._parts if work.name in part.work]
        if len(found) < len(self._parts):
            raise MeasurementError(self._missing(work.name))
        stored: dict[int, bytes] = {}
        for done in found:
            stored |= done.results
        if sorted(stored) != [*range(len(work.sizes))]:
            raise MeasurementError(self._missing(work.name))
        for unit in sorted(stored):
            yield unit, decoded(stored[unit], work.result)

    def _missing(self, name: str) -> str:
        kind, texts, _ = name.split(" ", 2)
        sampled = f"sample {texts} "
        if any(known.startswith(sampled) for part in self._parts for known in part.work):
            return (
                f"the parts hold newly sampled texts of {texts}, which are kept now; run all "
                "shards once more to measure on them, and merge again"
            )
        contexts = " with --specdec-update," * kind.startswith("score-contexts")
        return (
            f"the parts lack work on {texts} ({kind}): tests, prompts, options or models were "
            f"others; run all shards again{contexts} from this checkout"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class MergedParts:
    """A plugin of pytest that hands all parts to a session."""

    parts: Sequence[ShardPart]


def part_of(shard: Shard, work: Mapping[str, WorkResults], **belongs: object) -> ShardPart:
    """What a shard leaves; `belongs` are fields of its header."""
    header = PartHeader(schema=SCHEMA, shard=shard.number, shards=shard.shards, **belongs)  # type: ignore[arg-type]
    return ShardPart(header=header, work=dict(work))


def read_parts(paths: Sequence[Path]) -> list[ShardPart]:
    """All parts of one session, in the order of their shards. Raises RequestError for a part that
    is missing, comes twice, or is of another session.
    """
    parts = {path: ShardPart.read(path) for path in paths}
    first_path, first = next(iter(parts.items()))
    for path, part in parts.items():
        if difference := _difference(first, part):
            raise RequestError(
                f"{path} is not of the same session as {first_path}: {difference}; run all shards "
                "with one command, from one commit and on machines alike"
            )
    numbers = collections.Counter(part.header.shard for part in parts.values())
    count = first.header.shards
    if twice := [number for number, times in numbers.items() if times > 1]:
        doubled = [str(path) for path, part in parts.items() if part.header.shard == twice[0]]
        raise RequestError(
            f"shard {twice[0]}/{count} is there {numbers[twice[0]]} times ({', '.join(doubled)}); "
            "name each part once"
        )
    if missing := [number for number in range(1, count + 1) if number not in numbers]:
        named = ", ".join(f"{number}/{count}" for number in missing[:5])
        more = ", ..." * (len(missing) > 5)
        raise RequestError(f"shard {named}{more} is missing; run it, and name its part, too")
    return sorted(parts.values(), key=lambda part: part.header.shard)


def _difference(first: ShardPart, other: ShardPart) -> str | None:
    """In what two parts belong to different sessions; None where they may be of one."""
    for name in ("schema", "version", "commit", "shards", "arguments"):
        before, now = getattr(first.header, name), getattr(other.header, name)
        if before != now:
            return f"{name} {_shown(now)}, and not {_shown(before)}"
    if first.work.keys() != other.work.keys():
        return "it did other work (other tests, prompts, texts or hidden states)"
    for name, done in first.work.items():
        theirs = other.work[name]
        if (done.units, done.everywhere) != (theirs.units, theirs.everywhere):
            return f"its work on {name} is divided otherwise"
        if done.everywhere and done.results != theirs.results:
            return f"its models, tokenizer or environment are others ({name.split()[1]})"
    return None


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)
