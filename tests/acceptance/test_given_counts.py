"""Counts that a test hands over: what is made of rounds and of sums, and what is refused."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.acceptance import given_counts as module
from pytest_specdec.acceptance.given_counts import ROUNDS, SUMS, TOTALS, given_counts
from pytest_specdec.common.errors import RequestError

NAN = float("nan")
GOOD = [[3, 1], [3, 0]]


@st.composite
def rounds_of_requests(draw: st.DrawFn, *, full: bool) -> dict[str, list[tuple[int, int]]]:
    """Rounds of 2 to 5 requests, k = 4, at least one that drafts 4; with `full` all do."""
    drafted = st.just(4) if full else st.integers(0, 4)
    one_round = drafted.flatmap(lambda most: st.tuples(st.just(most), st.integers(0, most)))
    requests = draw(st.lists(st.lists(one_round, max_size=6), min_size=2, max_size=5))
    requests[0].append((4, draw(st.integers(0, 4))))
    return {f"request {place}": rows for place, rows in enumerate(requests)}


@PROPERTY
@given(rounds_of_requests(full=False))
def test_each_position_counts_the_rounds_that_reach_it(
    requests: dict[str, list[tuple[int, int]]],
) -> None:
    result = given_counts(rounds=requests)
    counts = result.counts
    assert (result.definition, result.keyed) == (ROUNDS, True)
    assert (counts.prompts, counts.k) == (tuple(requests), 4)
    for row, rounds in enumerate(requests.values()):
        assert counts.rounds[row] == len(rounds)
        for position in range(1, 5):
            assert counts.drafted[row, position - 1] == sum(
                drafted >= position for drafted, _ in rounds
            )
            assert counts.accepted[row, position - 1] == sum(
                accepted >= position for _, accepted in rounds
            )
    assert result.without_rounds == sum(not rounds for rounds in requests.values())


@PROPERTY
@given(rounds_of_requests(full=True))
def test_sums_are_the_counts_of_their_rounds_where_each_drafts_k(
    requests: dict[str, list[tuple[int, int]]],
) -> None:
    whole = given_counts(rounds=requests).counts
    by_position = given_counts(
        sums={
            key: (
                len(rounds),
                4 * len(rounds),
                [sum(accepted >= place for _, accepted in rounds) for place in range(1, 5)],
            )
            for key, rounds in requests.items()
        }
    )
    assert by_position.definition == SUMS
    for name in ("rounds", "drafted", "accepted"):
        assert getattr(by_position.counts, name).tolist() == getattr(whole, name).tolist()
    totals = given_counts(
        sums={
            key: (len(rounds), 4 * len(rounds), sum(accepted for _, accepted in rounds))
            for key, rounds in requests.items()
        },
        k=4,
    )
    assert totals.definition == TOTALS
    assert totals.counts.accepted.sum(1) == pytest.approx(whole.accepted.sum(1))
    assert totals.counts.acceptance_length == pytest.approx(whole.acceptance_length)
    assert totals.counts.acceptance_rate == pytest.approx(whole.acceptance_rate)


def test_drafts_missing_in_sums_are_missing_at_the_last_positions() -> None:
    counts = given_counts(sums={"a": (10, 26, [9, 6, 3]), "b": (10, 30, [9, 6, 3])}).counts
    assert counts.drafted.tolist() == [[10, 10, 6], [10, 10, 10]]


def test_requests_of_a_list_are_named_by_their_places() -> None:
    result = given_counts(rounds=[GOOD, GOOD])
    assert (result.counts.prompts, result.keyed) == (("#0000", "#0001"), False)


def test_arrays_and_their_numbers_are_taken_too() -> None:
    array = np.array([[3, 1], [3, 0]])
    whole = given_counts(rounds={"a": GOOD, "b": GOOD}).counts
    counts = given_counts(rounds={"a": array, "b": [tuple(row) for row in array]}).counts
    assert counts.accepted.tolist() == whole.accepted.tolist()


def test_k_may_be_more_than_any_round_drafted() -> None:
    assert given_counts(rounds=[GOOD, GOOD], k=5).counts.accepted.tolist() == [[1, 0, 0, 0, 0]] * 2
    assert given_counts(sums=[(2, 6, [1, 0]), (2, 6, [1, 0])], k=3).counts.k == 3


def test_a_request_may_have_no_round() -> None:
    result = given_counts(rounds={"a": GOOD, "b": []})
    assert (result.counts.rounds.tolist(), result.without_rounds) == ([2, 0], 1)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "counts are given as rounds= or as sums=; pass one of the two"),
    ({"rounds": [GOOD], "sums": [(1, 3, 1)]}, "pass one of the two"),
    ({"rounds": []}, "no request is given; give each request a list of"),
    ({"rounds": {}}, "no request is given"),
    ({"sums": {}}, "no request is given; give each request (rounds, drafted, accepted)"),
    ({"rounds": 3}, "3 is neither a mapping nor a list of requests"),
    ({"rounds": "abc"}, "'abc' is neither a mapping nor a list of requests"),
    ({"rounds": {1: GOOD, 2: GOOD}}, "the request key 1 is not a text"),
    ({"rounds": {"": GOOD, "b": GOOD}}, "the request key '' is not a text"),
    ({"rounds": {"\ud800": GOOD, "b": GOOD}}, r"the request key '\ud800' is not a text"),
    ({"rounds": [[], []]}, "k is 0, the most that any round drafts"),
    ({"rounds": [[], []], "k": 3}, "none of the 2 requests has a round; check that the engine"),
    ({"rounds": [[[0, 0]], [[0, 0]]]}, "k is 0, the most that any round drafts"),
    ({"rounds": {"a": GOOD, "b": 7}}, "request 'b' is 7; give each request a list of"),
    ({"rounds": [[3, 1], [3, 2]]}, "request '#0000', round 1 is 3; give each request a list"),
    ({"rounds": {"a": [[3, 1, 2]], "b": GOOD}}, "request 'a', round 1 is [3, 1, 2]; give"),
    ({"rounds": {"a": [[3, 4]], "b": GOOD}}, "request 'a', round 1 accepts 4 of 3 drafted tokens"),
    ({"rounds": {"a": [[3, 1], [3, -1]], "b": GOOD}}, "request 'a', round 2 holds -1; counts are"),
    ({"rounds": {"a": [[3, NAN]], "b": GOOD}}, "request 'a', round 1 holds nan; counts are whole"),
    ({"rounds": {"a": [[3, 1.0]], "b": GOOD}}, "request 'a', round 1 holds 1.0; counts are whole"),
    ({"rounds": {"a": [[3, True]], "b": GOOD}}, "request 'a', round 1 holds True; counts are"),
    ({"rounds": {"a": [[3, None]], "b": GOOD}}, "request 'a', round 1 holds None; counts are"),
    ({"rounds": {"a": [["3", 1]], "b": GOOD}}, "request 'a', round 1 holds '3'; counts are whole"),
    ({"rounds": {"a": [[10**40, 1]], "b": GOOD}}, "request 'a', round 1 holds a huge number"),
    ({"rounds": [GOOD, GOOD], "k": 2}, "a round drafts 3 tokens and k is 2; raise k="),
    ({"rounds": [[[600, 1]], GOOD]}, "k is 600, the most that any round drafts; it must be from 1"),
    ({"sums": [(1, 3, 1), (1, 3, 1)]}, "sums without positions do not show k; pass k="),
    (
        {"sums": [(1, 3, 1), (1, 3, [1, 0, 0])]},
        "some requests give accepted tokens by position and",
    ),
    ({"sums": {"a": (1, 3), "b": (1, 3)}, "k": 3}, "request 'a' is (1, 3); give each request"),
    (
        {"sums": [(1, 3, 4), (1, 3, 1)], "k": 3},
        "'#0000' accepts 4 of 3 drafted tokens; give (rounds",
    ),
    ({"sums": [(1, 4, 1), (1, 3, 1)], "k": 3}, "drafts 4 tokens in 1 rounds of at most 3"),
    ({"sums": [(2, 6, [1, 2]), (1, 3, [1])], "k": 3}, "accepts [1, 2] by position in 2 rounds"),
    ({"sums": [(2, 6, [3, 0, 0]), (1, 3, [1])]}, "accepts [3, 0, 0] by position in 2 rounds"),
    ({"sums": [(2, 6, [1, NAN]), (1, 3, [1])]}, "request '#0000' holds nan; counts are whole"),
    ({"sums": [(2, 6, [1] * 4), (1, 3, [1])], "k": 3}, "the list of accepted tokens has 4 tokens"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_is_no_count_is_one_message(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        given_counts(**arguments)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "pooled",
    [
        {"sums": (100, 300, 150)},
        {"sums": {"rounds": 100, "drafted": 300, "accepted": 150}},
        {"sums": {"all": (100, 300, [90, 40, 20])}},
        {"rounds": {"all": GOOD}},
        {"rounds": [GOOD]},
    ],
)
def test_one_pooled_total_is_refused_with_the_reason_and_the_cure(pooled: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        given_counts(**pooled, k=3)
    assert str(refused.value) == (
        "one total over all requests shows no spread, so no false-alarm rate can be stated for it; "
        "give counts per request, or per repeat of the whole run"
    )


def test_the_examples_run() -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(given_counts, globs=vars(module))
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
