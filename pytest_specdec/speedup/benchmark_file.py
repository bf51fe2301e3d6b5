"""Cost profiles from what pytest-benchmark saved. Plain Python.

A benchmark counts where its `extra_info["specdec"]` names what it timed, as
`SteadyRounds.describe` writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ..cases.drafter import DRAFT, DRAFTER_TYPES, LOOKUP, OWN_HEADS
from ..common.bounded_files import read_text
from ..common.errors import CostError
from ..common.limits import MOST_DEPTH, MOST_K
from ..common.strict_json import JsonError, parse_json
from .cost_profile import CostProfile
from .profile_file import PlainLine

_MOST_SPREAD = 1_000_000
_HINT = "save one with: pytest --benchmark-json=FILE, of tests that use specdec_rounds"


class _TimedPart(msgspec.Struct):
    """What a benchmark timed."""

    part: PlainLine
    """`target`, `verify`, or the drafter as records name it."""
    k: Annotated[int, Meta(ge=0, le=MOST_K)]
    depth: Annotated[int, Meta(ge=0, le=MOST_DEPTH)]
    batch_size: Annotated[int, Meta(ge=1, le=2**20)]
    machine: PlainLine
    software: PlainLine


class _Statistics(msgspec.Struct):
    """Of its rounds; times in seconds."""

    median: Annotated[float, Meta(ge=0, le=1e6)]
    iqr: Annotated[float, Meta(ge=0, le=1e6)]
    rounds: Annotated[int, Meta(ge=1, le=2**53)]


class _ExtraInfo(msgspec.Struct):
    specdec: _TimedPart | None = None


class _Benchmark(msgspec.Struct):
    extra_info: _ExtraInfo = msgspec.field(default_factory=_ExtraInfo)
    stats: dict[str, object] = msgspec.field(default_factory=dict)


class _File(msgspec.Struct):
    benchmarks: list[_Benchmark]


_Timed = list[tuple[_TimedPart, _Statistics]]


def profile_from_benchmark(path: str | Path) -> CostProfile:
    """The median times of a file that pytest-benchmark saved.

    Raises CostError for a file that cannot be read, holds no times of rounds, times a part twice,
    or mixes machines or batch sizes.
    """
    timed = _timed(Path(path))
    settings = {(part.machine, part.software, part.batch_size) for part, _ in timed}
    if len(settings) != 1:
        listed = "; ".join(
            f"{machine}, {software}, batch {batch}" for machine, software, batch in sorted(settings)
        )
        raise CostError(
            f"{path} must hold the rounds of one machine and batch size, but has "
            f"{listed or 'no times of rounds'}; {_HINT}"
        )
    ((machine, software, batch_size),) = settings
    known = ("target", "verify", DRAFT)
    if strange := [part.part for part, _ in timed if part.part not in (*known, *DRAFTER_TYPES)]:
        raise CostError(
            f"{path} times {strange[0]!r}, which is neither {', '.join(known)} nor a type of "
            f"drafter; {_HINT}"
        )
    if any((part.k == 0) != (part.part == "target") for part, _ in timed):
        raise CostError(
            f"{path} times the target with drafts, or a part without any; the target alone has "
            f"k = 0; {_HINT}"
        )
    tables: dict[str, dict[int, dict[int, float]]] = {}
    for part, stats in timed:
        row = tables.setdefault(part.part, {}).setdefault(part.depth, {})
        if part.k in row:
            raise CostError(
                f"{path} times {part.part} at k = {part.k}, depth {part.depth} twice; save each "
                "once"
            )
        row[part.k] = round(stats.median * 1e3, 4)
    spread = max(stats.iqr / stats.median if stats.median > 0 else 0.0 for _, stats in timed)
    if spread > _MOST_SPREAD:
        raise CostError(
            f"{path} holds times that differ {_MOST_SPREAD:,}-fold from round to round; time them "
            "again"
        )
    return CostProfile(
        verify=tables.pop("verify", {}).get(0, {}),
        draft=tables.pop(DRAFT, {}),
        target_ms=tables.pop("target", {}).get(0, {}).get(0),
        own_heads=tables.pop(OWN_HEADS, {}),
        lookup=tables.pop(LOOKUP, {}).get(0, {}),
        drafters=tables,
        machine=machine,
        software=software,
        batch_size=batch_size,
        spread=round(spread, 4),
        samples=min(stats.rounds for _, stats in timed),
    )


def _timed(path: Path) -> _Timed:
    """What each benchmark timed, and its statistics."""
    try:
        data = parse_json(read_text(path), infinities=True)
        benchmarks = msgspec.convert(data, _File).benchmarks
        return [
            (part, msgspec.convert(benchmark.stats, _Statistics))
            for benchmark in benchmarks
            if (part := benchmark.extra_info.specdec) is not None
        ]
    except OSError as error:
        raise CostError(f"{path} cannot be read ({error.strerror}); {_HINT}") from None
    except (JsonError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise CostError(f"{path} is not a file of pytest-benchmark ({error}); {_HINT}") from None
