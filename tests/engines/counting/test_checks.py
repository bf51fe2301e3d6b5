"""Numbers that contradict each other are found, with the engine's own name of the counter."""

from __future__ import annotations

import pytest
from helpers.reports import reported, request
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.engines.adapter_api import Counters, CountingConvention, PooledCounters, Totals
from pytest_specdec.engines.counting.checks import check_pooled, check_reported, rounds_of

NAMED = Counters(
    rounds="num_drafts",
    drafted="num_draft_tokens",
    accepted="num_accepted_tokens",
    per_position="num_accepted_tokens_per_pos",
)
FULL = CountingConvention(end="full", counters=NAMED)
PREFILL = CountingConvention(prefill_drafts=True, counts_empty=True)
OPENVINO = [(105, 26, 37), (87, 29, 34), (90, 30, 32), (78, 36, 27)]
"""What its accessors say of 4 requests of 64 tokens at k = 3 (drafted, accepted), and the rounds
that m_batch_sizes has.
"""


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=20),
    st.sampled_from([CountingConvention(), FULL, PREFILL]),
)
def test_what_a_decoder_counts_is_accepted(
    accepted: list[int], convention: CountingConvention
) -> None:
    text = reported([(3, number) for number in accepted], convention=convention)
    check_reported(text, request(new_tokens=100))
    per_position = tuple(sum(number > step for number in accepted) for step in range(3))
    totals = Totals(
        rounds=len(accepted),
        drafted=3 * len(accepted),
        accepted=sum(accepted),
        per_position=per_position,
    )
    check_reported(reported(None, text.tokens, convention, totals=totals), request(new_tokens=100))


@pytest.mark.parametrize(("drafted", "accepted", "rounds"), OPENVINO[:1])
def test_openvinos_accessors_leave_out_the_last_round(
    drafted: int, accepted: int, rounds: int
) -> None:
    """No rate shows it; the text is longer than its rounds."""
    totals = Totals(rounds=None, drafted=drafted, accepted=accepted)
    with pytest.raises(
        MeasurementError,
        match=r"num_drafts \(35\) and num_accepted_tokens \(26\) make 61 tokens and 63 were emit",
    ):
        check_reported(reported(None, 64, FULL, totals=totals), request())
    assert rounds == 63 - 26  # the right ones: as many as make the text
    check_reported(
        reported(None, 64, FULL, totals=Totals(rounds=None, drafted=3 * 36, accepted=27)), request()
    )


def test_sums_of_prompt_lookup_need_the_rounds() -> None:
    """How many of its rounds drafted nothing cannot be computed from drafts alone."""
    lookup_request = request(drafter="prompt-lookup")
    with pytest.raises(
        MeasurementError,
        match="num_drafts is missing, and prompt lookup drafts in some rounds only",
    ):
        check_reported(
            reported(None, 64, FULL, totals=Totals(rounds=None, drafted=60, accepted=23)),
            lookup_request,
        )


@pytest.mark.parametrize(
    ("totals", "message"),
    [
        (
            Totals(rounds=20, drafted=60, accepted=61, per_position=None),
            "num_accepted_tokens is 61, more than the 60",
        ),
        (
            Totals(rounds=20, drafted=61, accepted=43, per_position=None),
            "num_draft_tokens is 61, more than k=3 in each of 20 num_drafts; start the engine with "
            "k=3",
        ),
        (
            Totals(rounds=20, drafted=-1, accepted=43, per_position=None),
            "num_draft_tokens is -1, which no counter can be",
        ),
        (
            Totals(rounds=40, drafted=120, accepted=23, per_position=(10, 11, 2)),
            "num_accepted_tokens_per_pos rises or is negative",
        ),
        (
            Totals(rounds=40, drafted=120, accepted=23, per_position=(41, -9, -9)),
            "num_accepted_tokens_per_pos rises or is negative",
        ),
        (
            Totals(rounds=40, drafted=120, accepted=23, per_position=(12, 6, 4)),
            r"num_accepted_tokens_per_pos adds up to 22 \(12, 6, 4\) and num_accepted_tokens is 23",
        ),
        (
            Totals(rounds=40, drafted=120, accepted=23, per_position=(12, 6, 4, 1)),
            "has 4 positions and k is 3; start the engine with k=3",
        ),
        (
            Totals(rounds=39, drafted=117, accepted=23, per_position=None),
            "so they leave rounds out",
        ),
        (
            Totals(rounds=41, drafted=123, accepted=23, per_position=None),
            "so they count more than was emitted",
        ),
        (
            Totals(rounds=None, drafted=118, accepted=23, per_position=None),
            "num_draft_tokens is 118, not a multiple of k=3",
        ),
    ],
)
def test_what_contradicts_itself_names_the_counter(totals: Totals, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        check_reported(reported(None, 64, FULL, totals=totals), request())


@pytest.mark.parametrize(
    ("rounds", "tokens", "message"),
    [
        ([(4, 1)], 3, "drafted is 4 and k is 3; start the engine with k=3"),
        ([(3, -1)], 3, "accepted is -1 of 3"),
        ([(2, 3)], 5, "accepted is 3 of 2 drafted"),
        ([(3, 1), (3, 0)], 6, "leave rounds out"),
        ([(3, 1), (3, 0)], 2, "count more than was emitted"),
        ([], 0, "emitted no token"),
        ([(3, 3)] * 20, None, "emitted 81 tokens where 64 were asked for"),
    ],
)
def test_rounds_are_held_to_the_text(rounds: list, tokens: int | None, message: str) -> None:
    with pytest.raises(MeasurementError, match=message):
        check_reported(reported(rounds, tokens), request())


def test_a_last_round_without_drafts_need_not_be_reported() -> None:
    """Where one token is left there is nothing to draft."""
    check_reported(reported([(3, 1), (3, 0)], 5), request(new_tokens=5))
    for convention, limit in ((CountingConvention(), 6), (FULL, 5)):
        with pytest.raises(MeasurementError, match="leave rounds out"):
            check_reported(reported([(3, 1), (3, 0)], 5, convention), request(new_tokens=limit))


def test_prompt_lookup_may_leave_out_any_round_that_drafted_nothing() -> None:
    check_reported(reported([(3, 1)], 40), request(drafter="prompt-lookup"))


def test_a_last_round_may_reach_past_the_text_where_the_engine_says_so() -> None:
    check_reported(reported([(3, 1), (3, 3)], 5, CountingConvention(undelivered=True)), request())
    with pytest.raises(MeasurementError, match="count more than was emitted"):
        check_reported(
            reported([(3, 1), (3, 0)], 2, CountingConvention(undelivered=True)), request()
        )


def test_a_requests_sums_are_those_of_its_rounds() -> None:
    rounds = [(3, 1), (3, 2)]
    check_reported(reported(rounds, totals=Totals(rounds=2, drafted=6, accepted=3)), request())
    with pytest.raises(MeasurementError, match="accepted is 2 and its rounds add up to 3"):
        check_reported(reported(rounds, totals=Totals(rounds=3, drafted=6, accepted=2)), request())


def test_pooled_sums_are_held_to_all_texts() -> None:
    texts = [reported(None, 64) for _ in range(4)]
    check_pooled(
        PooledCounters(
            Totals(rounds=124, drafted=372, accepted=128, per_position=(70, 39, 19)), FULL
        ),
        texts,
        request(),
    )
    with pytest.raises(MeasurementError, match=r"\(121\) make 245 tokens and 252 were emitted"):
        check_pooled(
            PooledCounters(Totals(rounds=124, drafted=372, accepted=121), FULL), texts, request()
        )


def test_rounds_that_no_counter_has_follow_from_the_text() -> None:
    assert (
        rounds_of(Totals(rounds=None, drafted=106, accepted=27), CountingConvention(), 3, [64])
        == 36
    )
    with pytest.raises(
        MeasurementError,
        match="more than k=3 in each of the 36 rounds that the texts leave room for",
    ):
        check_reported(
            reported(None, 64, totals=Totals(rounds=None, drafted=109, accepted=27)), request()
        )
