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
    return counts_of_rounds([text(length)], [[Round(*played) for played in rounds]], k)


def test_rounds_drafts_and_accepted_tokens_are_whole_numbers_by_position() -> None:
    tally = counted(20, 3, (3, 3, 3), (7, 3, 0), (8, 3, 2), (11, 3, 1))
    assert tally.rounds.tolist() == [4]
    assert tally.drafted.tolist() == [[4, 4, 4]]
    assert tally.accepted.tolist() == [[3, 2, 1]]
    assert tally.acceptance_length == 1 + 6 / 4


@pytest.mark.parametrize(("length", "rounds"), [(10, 2), (9, 1), (6, 1), (5, 0)])
def test_a_round_that_crosses_the_end_is_not_counted(length: int, rounds: int) -> None:
    """The last k positions of a text: a round that starts there could not have drafted all of
    them.
    """
    tally = counted(length, 4, (2, 4, 3), (6, 4, 4))
    assert tally.total_rounds == rounds
    assert tally.accepted.sum() == [0, 3, 7][rounds]


def test_a_round_without_drafts_is_still_a_pass_of_the_target() -> None:
    tally = counted(20, 3, (3, 0, 0), (4, 3, 2), (7, 0, 0))
    assert tally.rounds.tolist() == [3]
    assert tally.drafted.tolist() == [[1, 1, 1]]
    assert tally.accepted.tolist() == [[1, 1, 0]]
    assert tally.acceptance_length == pytest.approx(1 + 2 / 3)
    assert tally.acceptance_rate == pytest.approx(2 / 3)


def test_a_round_with_few_drafts_counts_where_k_of_them_would_have_fitted() -> None:
    """The same rounds for every drafter: whether one counts does not hang on how much it found to
    propose.
    """
    tally = counted(10, 4, (3, 2, 2), (6, 1, 1), (8, 1, 0))
    assert tally.rounds.tolist() == [2]
    assert tally.drafted.tolist() == [[2, 1, 0, 0]]
    assert tally.accepted.tolist() == [[2, 1, 0, 0]]


def test_each_text_keeps_its_own_row_key_and_category() -> None:
    texts = [text(9, "a", "code"), text(30, "b", "prose"), text(3, "c", "code")]
    rounds = [[Round(3, 2, 1)], [Round(3, 2, 2), Round(6, 2, 0)], []]
    tally = counts_of_rounds(texts, rounds, 2)
    assert (tally.prompts, tally.categories) == (("a", "b", "c"), ("code", "prose", "code"))
    assert tally.rounds.tolist() == [1, 2, 0]
    assert tally.accepted.tolist() == [[1, 0], [1, 1], [0, 0]]


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
    tally = counted(length, k, *rounds)
    inside = [
        played
        for played in rounds
        if all(position < length for position in range(played.start, played.start + k))
    ]
    assert tally.total_rounds == len(inside)
    for step in range(k):
        assert tally.drafted[0, step] == sum(played.drafted > step for played in inside)
        assert tally.accepted[0, step] == sum(played.accepted > step for played in inside)


@pytest.mark.parametrize(
    ("rounds", "passes"),
    [
        ([(3, 3, 3), (7, 2, 1), (9, 0, 0)], 3),  # the last token takes a pass without drafts
        ([(3, 3, 3), (7, 2, 1)], 3),  # and does so where the engine does not count it
        ([(3, 3, 3), (7, 2, 2)], 2),
        ([(3, 3, 3), (7, 3, 3)], 2),  # what was accepted after the end is not emitted
        ([(3, 0, 0), (4, 0, 0), (5, 3, 3), (9, 0, 0)], 4),
    ],
)
def test_passes_of_the_target_emit_all_tokens_after_the_first_new_one(
    rounds: list[tuple[int, int, int]], passes: int
) -> None:
    texts, rounds_of_texts = [text(10)], [[Round(*played) for played in rounds]]
    tally = with_passes(counts_of_rounds(texts, rounds_of_texts, 3), texts, rounds_of_texts)
    assert tally.emitted is not None
    assert tally.passes is not None
    assert (tally.emitted.tolist(), tally.passes.tolist()) == ([7], [passes])
    assert tally.request_length == 7 / passes


def test_a_text_of_one_new_token_takes_no_pass() -> None:
    tally = with_passes(counts_of_rounds([text(3)], [[]], 3), [text(3)], [[]])
    assert tally.emitted is not None
    assert tally.passes is not None
    assert (tally.emitted.tolist(), tally.passes.tolist()) == ([0], [0])
