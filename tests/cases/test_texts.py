"""Texts that end in a loop, which any drafter can continue."""

from __future__ import annotations

import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.cases.texts import LONGEST_LOOP, Text

tokens = st.integers(0, 99)


def loops(new: list[int], prompt: tuple[int, ...] = (1, 2, 3)) -> bool:
    return Text("p", "all", (*prompt, *new), len(prompt)).loops


@given(
    st.lists(st.integers(100, 199), max_size=30),
    st.lists(tokens, min_size=1, max_size=LONGEST_LOOP),
)
@PROPERTY
def test_a_part_repeated_over_more_than_half_loops(start: list[int], part: list[int]) -> None:
    covered = max(len(start), 16) + 2 * LONGEST_LOOP
    assert loops(start + (part * covered)[:covered])


@given(st.permutations(range(40)))
@PROPERTY
def test_a_text_without_repetition_does_not(new: list[int]) -> None:
    assert not loops(new)


def test_a_slip_here_and_there_is_still_a_loop() -> None:
    new = [28] * 80
    new[50] = new[70] = 12
    assert loops(new)
    new[40::4] = [12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
    assert not loops(new)


def test_a_short_echo_at_the_end_does_not() -> None:
    assert not loops([*range(100), *[7, 8] * 20]), "40 of 140 tokens are less than half"
    assert loops([*range(100), *[7, 8] * 60])


def test_a_loop_that_was_left_again_does_not() -> None:
    assert not loops([*[7, 8] * 60, *range(30)])


def test_the_prompts_own_loop_does_not_count() -> None:
    assert not loops([*range(100, 140)], prompt=(7, 8) * 60)


def test_a_longer_part_is_no_loop() -> None:
    part = list(range(LONGEST_LOOP + 1))
    assert not loops(part * 5)
    assert loops(part[:-1] * 5)


@pytest.mark.parametrize("new", [[], [1], [1, 1], [1] * 31])
def test_short_texts_do_not_loop(new: list[int]) -> None:
    assert not loops(new)


def test_thirty_two_tokens_are_enough() -> None:
    assert loops([1] * 32)
