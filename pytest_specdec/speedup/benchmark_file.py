"""Cost profiles from what pytest-benchmark saved. Plain Python.

A benchmark counts where its `extra_info["specdec"]` says what it timed, as `SteadyRounds.describe`
does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import CostError
from .cost_profile import CostProfile

KEY = "specdec"
_PARTS = ("target", "verify", "draft", "mtp", "prompt-lookup")
_HINT = "save one with: pytest --benchmark-json=FILE, of tests that use specdec_rounds"


def profile_from_benchmark(path: str | Path) -> CostProfile:
    """The median times of a file of pytest-benchmark's.

    Raises CostError for a file that cannot be read, holds no times of rounds, times one part twice,
    or mixes machines or batch sizes.
    """
    found = list(_parts(Path(path)))
    settings = {(part["machine"], part["software"], part["batch_size"]) for part, _ in found}
    if len(settings) != 1:
        told = "; ".join(
            f"{machine}, {software}, batch {batch}" for machine, software, batch in sorted(settings)
        )
        told = told or "no times of rounds"
        raise CostError(
            f"{path} must hold the rounds of one machine and batch size, but has {told}; {_HINT}"
        )
    ((machine, software, batch_size),) = settings
    tables: dict[str, dict[int, dict[int, float]]] = {name: {} for name in _PARTS}
    for part, stats in found:
        row = tables[part["part"]].setdefault(part["depth"], {})
        if part["k"] in row:
            raise CostError(
                f"{path} times {part['part']} at k = {part['k']}, depth {part['depth']} twice; "
                "save each once"
            )
        row[part["k"]] = round(stats["median"] * 1e3, 4)
    spread = max(
        stats["iqr"] / stats["median"] if stats["median"] > 0 else 0.0 for _, stats in found
    )
    return CostProfile(
        verify=tables["verify"].get(0, {}),
        draft=tables["draft"],
        target_ms=tables["target"].get(0, {}).get(0),
        own_heads=tables["mtp"],
        lookup=tables["prompt-lookup"].get(0, {}),
        machine=machine,
        software=software,
        batch_size=batch_size,
        spread=round(spread, 4),
        samples=min(stats["rounds"] for _, stats in found),
    )


def _parts(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What each benchmark timed, and its statistics in seconds."""
    try:
        benchmarks = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
        for one in benchmarks:
            if part := one.get("extra_info", {}).get(KEY):
                stats = {name: float(one["stats"][name]) for name in ("median", "iqr", "rounds")}
                if part["part"] not in _PARTS:
                    raise ValueError(f"{part['part']!r} is no part of a round")
                numbers = {name: int(part[name]) for name in ("k", "depth", "batch_size")}
                yield (
                    {
                        **numbers,
                        **{name: str(part[name]) for name in ("part", "machine", "software")},
                    },
                    {**stats, "rounds": int(stats["rounds"])},
                )
    except OSError as error:
        raise CostError(f"{path} cannot be read ({error.strerror}); {_HINT}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CostError(f"{path} is no file of pytest-benchmark's ({error!r}); {_HINT}") from None
