"""Cost profiles from pytest-benchmark's files. That real files read is shown in tests/plugin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_specdec.common.errors import CostError
from pytest_specdec.speedup.benchmark_file import profile_from_benchmark


def timed(
    part: str, k: int, ms: float, *, depth: int = 0, machine: str = "gpu", batch_size: int = 1
) -> dict[str, Any]:
    extra = {
        "part": part,
        "k": k,
        "depth": depth,
        "machine": machine,
        "software": "torch 3",
        "batch_size": batch_size,
    }
    return {
        "stats": {"median": ms / 1e3, "iqr": ms / 1e4, "rounds": 40 + k},
        "extra_info": {"specdec": extra},
    }


ROUND = [
    timed("target", 0, 76.0),
    timed("verify", 4, 90.0),
    timed("draft", 4, 20.0, depth=3),
    timed("mtp", 4, 12.0, depth=1),
]


def saved(path: Path, benchmarks: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"benchmarks": benchmarks, "machine_info": {}}))
    return path


def test_each_part_finds_its_table(tmp_path: Path) -> None:
    others = [{"stats": {}, "extra_info": {}}, {"stats": {}}]
    profile = profile_from_benchmark(
        saved(
            tmp_path / "b.json",
            [*ROUND, timed("prompt-lookup", 4, 0.1), timed("eagle3", 4, 3.0), *others],
        )
    )
    assert profile.target_ms == 76.0
    assert profile.verify == {4: 90.0}
    assert profile.draft == {3: {4: 20.0}}
    assert profile.own_heads == {1: {4: 12.0}}
    assert profile.lookup == {4: 0.1}
    assert profile.drafters == {"eagle3": {0: {4: 3.0}}}
    assert (profile.machine, profile.software, profile.batch_size, profile.samples) == (
        "gpu",
        "torch 3",
        1,
        40,
    )
    assert profile.spread == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("benchmarks", "message"),
    [
        ([], "no times of rounds"),
        ([*ROUND, timed("verify", 8, 1, machine="other")], "one machine and batch size"),
        ([*ROUND, timed("verify", 8, 1, batch_size=8)], "gpu, torch 3, batch 8"),
        ([*ROUND, timed("verify", 4, 1)], "times verify at k = 4, depth 0 twice"),
        ([timed("draft", 4, 1)], "needs verify times"),
        (
            [{"extra_info": {"specdec": {"part": "verify"}}, "stats": {}}],
            "not a file of pytest-benchmark",
        ),
        ([timed("verify", 4, 0.0)], "needs verify times, and all times positive"),
        (
            [timed("tea", 4, 1.0)],
            "times 'tea', which is neither target, verify, draft nor a type of drafter",
        ),
    ],
)
def test_a_file_that_is_no_profile_is_refused(
    tmp_path: Path, benchmarks: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(CostError, match=message):
        profile_from_benchmark(saved(tmp_path / "b.json", benchmarks))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"benchmarks": 3}', '{"benchmarks": [3]}'])
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(CostError, match="not a file of pytest-benchmark"):
        profile_from_benchmark(tmp_path / "b.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CostError, match="cannot be read"):
        profile_from_benchmark(tmp_path / "none.json")
