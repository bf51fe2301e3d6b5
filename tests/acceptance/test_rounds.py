"""Rounds of a decoder, counted by the definition: only those whose k draft positions all lie inside
the text.
"""

from __future__ import annotations

import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.acceptance.rounds import Round, counts_of_rounds, with_passes
from pytest_specdec.cases.texts import Text


def text(length: int, key: str = "a", category: str = "all", prompt: int = 2) -> Text:
    return Text(key, category, tuple(range(length)), prompt)


def counted(length: int, k: int, *rounds: tuple[int, int, int]) -> Counts:
    return counts_of_rounds([text(length)], [[Round(*one) for one in rounds]], k)


def test_rounds_drafts_and_accepted_tokens_are_whole_numbers_by_position() -> None:
    found = counted(20, 3, (3, 3, 3), (7, 3, 0), (8, 3, 2), (11, 3, 1))
    assert found.rounds.tolist() == [4]
    assert found.drafted.tolist() == [[4, 4, 4]]
    assert found.accepted.tolist() == [[3, 2, 1]]
    assert found.acceptance_length == 1 + 6 / 4


@pytest.mark.parametrize(("length", "rounds"), [(10, 2), (9, 1), (6, 1), (5, 0)])
def test_a_round_that_crosses_the_end_is_not_counted(length: int, rounds: int) -> None:
    """The last k positions of a text: a round that starts there could not have drafted all of
    them.
    """
    found = counted(length, 4, (2, 4, 3), (6, 4, 4))
    assert found.total_rounds == rounds
    assert found.accepted.sum() == [0, 3, 7][rounds]


def test_a_round_without_drafts_is_still_a_pass_of_the_target() -> None:
    found = counted(20, 3, (3, 0, 0), (4, 3, 2), (7, 0, 0))
    assert found.rounds.tolist() == [3]
    assert found.drafted.tolist() == [[1, 1, 1]]
    assert found.accepted.tolist() == [[1, 1, 0]]
    assert found.acceptance_length == pytest.approx(1 + 2 / 3)
    assert found.acceptance_rate == pytest.approx(2 / 3)


def test_a_round_with_few_drafts_counts_where_k_of_them_would_have_fitted() -> None:
    """The same rounds for every drafter: whether one counts does not hang on how much it found to
    propose.
    """
    found = counted(10, 4, (3, 2, 2), (6, 1, 1), (8, 1, 0))
    assert found.rounds.tolist() == [2]
    assert found.drafted.tolist() == [[2, 1, 0, 0]]
    assert found.accepted.tolist() == [[2, 1, 0, 0]]


def test_each_text_keeps_its_own_row_key_and_category() -> None:
    texts = [text(9, "a", "code"), text(30, "b", "prose"), text(3, "c", "code")]
    rounds = [[Round(3, 2, 1)], [Round(3, 2, 2), Round(6, 2, 0)], []]
    found = counts_of_rounds(texts, rounds, 2)
    assert (found.prompts, found.categories) == (("a", "b", "c"), ("code", "prose", "code"))
    assert found.rounds.tolist() == [1, 2, 0]
    assert found.accepted.tolist() == [[1, 0], [1, 1], [0, 0]]


def test_every_text_needs_its_rounds() -> None:
    with pytest.raises(ValueError, match="shorter"):
        counts_of_rounds([text(9), text(9, "b")], [[Round(3, 2, 1)]], 2)


@given(
    st.integers(1, 5),
    st.integers(3, 40),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12),
)
@PROPERTY
def test_counts_are_a_tally_of_the_rounds_inside(
    k: int, length: int, steps: list[tuple[int, int]]
) -> None:
    rounds, start = [], 3
    for drafted, accepted in steps:
        drafted = min(drafted, k)
        rounds.append(Round(start, drafted, min(accepted, drafted)))
        start += rounds[-1].accepted + 1
    found = counted(length, k, *rounds)
    inside = [
        one
        for one in rounds
        if all(position < length for position in range(one.start, one.start + k))
    ]
    assert found.total_rounds == len(inside)
    for step in range(k):
        assert found.drafted[0, step] == sum(one.drafted > step for one in inside)
        assert found.accepted[0, step] == sum(one.accepted > step for one in inside)


@pytest.mark.parametrize(
    ("rounds", "passes"),
    [
        ([(3, 3, 3), (7, 2, 1), (9, 0, 0)], 3),  # the last token takes a pass without drafts
        ([(3, 3, 3), (7, 2, 1)], 3),  # and does so where the engine does not count it
        ([(3, 3, 3), (7, 2, 2)], 2),
        ([(3, 3, 3), (7, 3, 3)], 2),  # what was accepted behind the end is not emitted
        ([(3, 0, 0), (4, 0, 0), (5, 3, 3), (9, 0, 0)], 4),
    ],
)
def test_passes_of_the_target_emit_all_tokens_after_the_first_new_one(
    rounds: list[tuple[int, int, int]], passes: int
) -> None:
    of, own = [text(10)], [[Round(*one) for one in rounds]]
    found = with_passes(counts_of_rounds(of, own, 3), of, own)
    assert found.emitted is not None
    assert found.passes is not None
    assert (found.emitted.tolist(), found.passes.tolist()) == ([7], [passes])
    assert found.request_length == 7 / passes


def test_a_text_of_one_new_token_takes_no_pass() -> None:
    found = with_passes(counts_of_rounds([text(3)], [[]], 3), [text(3)], [[]])
    assert found.emitted is not None
    assert found.passes is not None
    assert (found.emitted.tolist(), found.passes.tolist()) == ([0], [0])
