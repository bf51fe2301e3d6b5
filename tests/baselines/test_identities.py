"""What must hold between the numbers of a stored file."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from helpers.records import counts, record, steady_counts, text_set

from pytest_specdec.baselines.evidence_and_tokens import EvidenceFile, TokenMap, TokenRow
from pytest_specdec.baselines.identities import problems_of
from pytest_specdec.records.accumulated import AccumulatedRun
from pytest_specdec.records.prompt_counts import (
    POOLED,
    PromptCounts,
    SmoothedCounts,
    StoredContexts,
)
from pytest_specdec.records.record import SCHEMA, Record

ROW = PromptCounts(category="all", text="t", rounds=10.0, accepted=(8.0, 6.0, 4.0))
RISES = "prompt p0 accepts more at a later position than at an earlier one"
DRAFTS = (
    "prompt p0 drafts more tokens at a position than it has rounds, or than at an earlier position"
)


def with_row(**changes: Any) -> Record:
    """A record of one prompt with k = 3."""
    return record(counts={"p0": msgspec.structs.replace(ROW, **changes)})


def words(stored: Any) -> list[str]:
    return [problem for _, problem in problems_of(stored)]


@pytest.mark.parametrize(
    "stored",
    [
        record(),
        with_row(drafted=(10.0, 9.0, 8.0)),
        with_row(tokens=41, passes=10.0),
        with_row(contexts=StoredContexts(30.0, (24.0, 24.1, 12.0))),
        with_row(tokens=41, passes=40.0),
        with_row(tokens=31, passes=10.000004),  # rounding
        with_row(accepted=(10.000001, 10.000002, 4.0)),  # rounding
        with_row(smoothed=SmoothedCounts(rounds=11.0, accepted=(8.0, 6.0, 4.0))).__class__(
            **{
                **msgspec.structs.asdict(with_row(smoothed=SmoothedCounts(11.0, (8.0, 6.0, 4.0)))),
                "smoothing": 0.1,
            }
        ),
        record(repeats=2, again=(record().counts,)),
        record(counts={POOLED: msgspec.structs.replace(ROW, rounds=9000.0)}),
        text_set(),
        text_set(logprobs={"p0": (-1.0, -0.5, 0.0)}),
        EvidenceFile(
            schema=SCHEMA,
            baseline="baseline",
            runs=(AccumulatedRun(0.25, record().fingerprints, record().counts),),
        ),
        TokenMap(schema=SCHEMA, drafter="drafter", tokens={"p0": TokenRow("text", "0-Z+")}),
    ],
)
def test_what_measurements_yield_has_no_problem(stored: Any) -> None:
    assert problems_of(stored) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"accepted": (8.0, 6.0)}, "prompt p0 does not have 3 positions"),
        ({"accepted": (8.0, 6.0, 4.0, 2.0)}, "prompt p0 does not have 3 positions"),
        ({"drafted": (10.0,)}, "prompt p0 does not have 3 positions"),
        ({"accepted": (8.0, 9.0, 4.0)}, RISES),
        ({"accepted": (11.0, 9.0, 4.0)}, RISES),
        ({"drafted": (50.0, 50.0, 50.0)}, DRAFTS),
        ({"drafted": (10.0, 7.0, 8.0)}, DRAFTS),
        ({"drafted": (10.0, 5.0, 5.0)}, "prompt p0 accepts more tokens than it drafts"),
        ({"rounds": 500.0}, "prompt p0 emits more than the 512 new tokens of its text"),
        ({"rounds": 0.0, "accepted": (0.0, 0.0, 0.0)}, "no prompt has a round"),
        ({"tokens": 41}, "prompt p0 has tokens without passes, or passes without tokens"),
        ({"passes": 12.0}, "prompt p0 has tokens without passes, or passes without tokens"),
        (
            {"tokens": 513, "passes": 200.0},
            "prompt p0 has 513 tokens, more than the 512 it may have",
        ),
        (
            {"tokens": 45, "passes": 10.5},
            "prompt p0 has 10.5 passes, which cannot emit 44 tokens in 10 rounds of 3 drafts",
        ),
        (
            {"tokens": 13, "passes": 13.0},
            "prompt p0 has 13 passes, which cannot emit 12 tokens in 10 rounds of 3 drafts",
        ),
        (
            {"tokens": 31, "passes": 9.0},
            "prompt p0 has 9 passes, which cannot emit 30 tokens in 10 rounds of 3 drafts",
        ),
        (
            {"smoothed": SmoothedCounts(10.0, (8.0, 6.0))},
            "prompt p0 has smoothed counts that are not 3 falling positions",
        ),
        (
            {"smoothed": SmoothedCounts(10.0, (8.0, 6.0, 4.0), (9.0, 9.0))},
            "prompt p0 has smoothed counts that are not 3 falling positions",
        ),
        (
            {"smoothed": SmoothedCounts(10.0, (8.0, 6.0, 4.0), (9.0, 5.0, 5.0))},
            "prompt p0 accepts more tokens than it drafts in its smoothed counts",
        ),
        (
            {"smoothed": SmoothedCounts(10.0, (8.0, 6.0, 4.0))},
            "it holds smoothed counts and no smoothing temperature",
        ),
        (
            {"smoothed": SmoothedCounts(500.0, (8.0, 6.0, 4.0))},
            "prompt p0 has smoothed counts of more than 512 new tokens",
        ),
        (
            {"contexts": StoredContexts(30.0, (31.0, 20.0, 10.0))},
            "prompt p0 accepts in more contexts than its text has",
        ),
        (
            {"contexts": StoredContexts(0.0, (0.0, 0.0, 0.0))},
            "prompt p0 has rounds, but none among its smoothed counts or contexts",
        ),
        (
            {"smoothed": SmoothedCounts(0.0, (0.0, 0.0, 0.0))},
            "prompt p0 has rounds, but none among its smoothed counts or contexts",
        ),
    ],
)
def test_numbers_that_no_measurement_yields_are_named(
    changes: dict[str, Any], problem: str
) -> None:
    assert problem in words(with_row(**changes))


def test_problems_name_the_line_where_they_are() -> None:
    assert problems_of(with_row(accepted=(11.0, 9.0, 4.0))) == [("p0", RISES)]
    assert problems_of(record(repeats=2)) == [("repeats", "it states 2 runs and holds 1")]


def test_a_length_that_no_drafts_can_reach_was_never_replaced() -> None:
    reachable, beyond = (
        msgspec.structs.replace(record().as_replaced(), acceptance_length=length)
        for length in (4.0, 4.01)
    )
    assert problems_of(record(replaced=(reachable,))) == []
    assert problems_of(record(replaced=(reachable, beyond))) == [
        ("replaced", "it replaced a length above 4, the most that 3 drafts can reach")
    ]


def test_a_record_without_prompts_has_no_round() -> None:
    assert words(record(counts={})) == ["no prompt has a round"]


def test_a_broken_row_in_a_further_run_is_a_problem() -> None:
    broken = dict(record().counts)
    broken["p3"] = msgspec.structs.replace(broken["p3"], accepted=(90.0, 9.0, 4.0))
    assert words(record(repeats=2, again=(broken,))) == [RISES.replace("p0", "p3")]


def test_runs_of_different_prompts_are_a_problem() -> None:
    assert "its runs hold different prompts" in words(
        record(repeats=2, again=(record(steady_counts(11)).counts,))
    )


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (text_set(texts={"p0": ()}), "the text of prompt p0 has no token"),
        (
            text_set(texts={"p0": (1,) * 65}),
            "the text of prompt p0 has 65 tokens, more than the 64 it may have",
        ),
        (text_set(logprobs={"p1": (-1.0,)}), "prompt p1 has 1 log-probabilities for 2 tokens"),
        (
            TokenMap(schema=SCHEMA, drafter="drafter", tokens={"p0": TokenRow("text", "0 1")}),
            "prompt p0 holds a character that is not an acceptance level",
        ),
        (
            EvidenceFile(
                schema=SCHEMA,
                baseline="b",
                runs=(
                    AccumulatedRun(0.5, record().fingerprints, record(counts([10], [[11]])).counts),
                ),
            ),
            RISES,
        ),
    ],
    ids=["empty", "long", "log-probabilities", "tokens", "evidence"],
)
def test_other_files_are_checked_too(stored: Any, problem: str) -> None:
    assert words(stored) == [problem]
