"""The parts of a round by pytest-benchmark, and the cost profile that comes of its file.

    pytest benchmarks/test_costs.py --benchmark-json=rounds.json
    python -m pytest_specdec costs --benchmark rounds.json -o costs.json

`python -m pytest_specdec costs --target ...` times the same parts in turn, which a slow moment of
the machine meets alike.
"""

from __future__ import annotations

import pytest

PAIR = {"target": "../suites/models/text-target", "prompts": "../suites/text/prompts.jsonl"}
ROUNDS, WARM_UP = 48, 8


def timed(benchmark, rounds, part: str) -> None:
    """Time one part of the rounds; what it is goes into the file."""
    benchmark.extra_info["specdec"] = rounds.describe(part)
    ready = getattr(rounds, f"ready_to_{part}")
    benchmark.pedantic(getattr(rounds, part), setup=ready, rounds=ROUNDS, warmup_rounds=WARM_UP)
    assert benchmark.stats.stats.rounds == ROUNDS


@pytest.mark.specdec(drafter="../suites/models/text-draft", k=[4], depth=[0], **PAIR)
def test_target(specdec_rounds, benchmark) -> None:
    timed(benchmark, specdec_rounds(plain=True), "verify")


@pytest.mark.specdec(drafter="../suites/models/text-draft", k=[2, 4, 8], depth=[0], **PAIR)
def test_verify(specdec_rounds, benchmark) -> None:
    timed(benchmark, specdec_rounds(), "verify")


@pytest.mark.specdec(drafter="../suites/models/text-draft", k=[2, 4, 8], depth=[0, 3], **PAIR)
def test_draft(specdec_rounds, benchmark) -> None:
    timed(benchmark, specdec_rounds(), "draft")


@pytest.mark.specdec(drafter="mtp", k=[2, 4, 8], depth=[3], **PAIR)
def test_own_heads(specdec_rounds, benchmark) -> None:
    timed(benchmark, specdec_rounds(), "draft")
