"""Prompt lookup against a search through the whole text, and against transformers' own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from pytest_specdec.acceptance.lookup import NGRAM, LookupIndex, lookup_matches

texts = st.integers(1, 4).flatmap(lambda most: st.lists(st.integers(0, most), max_size=30))
"""Small alphabets repeat themselves."""


def search(tokens: Sequence[int], k: int, ngram: int) -> list[int]:
    """What the rule says, by looking everywhere."""
    for size in range(ngram, 0, -1):
        for at in range(len(tokens) - size):
            if list(tokens[at : at + size]) == list(tokens[len(tokens) - size :]):
                return list(tokens[at + size : at + size + k])
    return []


def theirs(tokens: Sequence[int], k: int) -> list[int]:
    """transformers' candidates; a maximal length that is far away cuts none."""
    generator = PromptLookupCandidateGenerator(
        num_output_tokens=k, max_matching_ngram_size=NGRAM, max_length=10**6
    )
    candidates, _ = generator.get_candidates(torch.tensor([tokens]))
    return candidates[0, len(tokens) :].tolist()


@given(texts, st.integers(1, 6), st.integers(1, 4))
@PROPERTY
def test_drafts_are_what_a_search_through_the_text_finds(
    tokens: list[int], k: int, ngram: int
) -> None:
    assert LookupIndex(tokens, ngram).propose(k) == search(tokens, k, ngram)


@pytest.mark.parametrize("alphabet", [1, 2, 3, 5, 12])
def test_drafts_are_transformers_own(alphabet: int) -> None:
    rng = np.random.default_rng(alphabet)
    drafted = 0
    for _ in range(150):
        tokens, k = (
            rng.integers(alphabet, size=rng.integers(1, 40)).tolist(),
            int(rng.integers(1, 9)),
        )
        drafts = LookupIndex(tokens).propose(k)
        assert drafts == theirs(tokens, k)
        drafted += len(drafts)
    assert drafted > 150


@pytest.mark.parametrize(
    ("tokens", "drafts"),
    [
        ([7, 1, 2, 3, 4, 1, 2], [3, 4, 1]),
        (
            [2, 9, 1, 2, 3, 5, 1, 2],
            [3, 5, 1],
        ),  # the longer n-gram wins over an earlier single token
        ([4, 6, 5, 4, 8, 5, 4], [8, 5, 4]),
        ([1, 2, 3, 1, 2, 4, 1, 2], [3, 1, 2]),  # of several places the first
        ([8, 2, 5, 6, 1, 2], [5, 6, 1]),  # a single token where no pair recurs
        ([3, 3], [3]),  # fewer than k near the end
        ([1, 2, 3, 4], []),
        ([5], []),
        ([], []),
    ],
)
def test_the_longest_ngram_at_its_first_place_is_continued(
    tokens: list[int], drafts: list[int]
) -> None:
    assert LookupIndex(tokens).propose(3) == drafts


@given(st.lists(st.lists(st.integers(0, 2), max_size=5), max_size=8))
@PROPERTY
def test_extending_an_index_equals_building_it_at_once(parts: list[list[int]]) -> None:
    index, tokens = LookupIndex(), []
    for part in parts:
        index.extend(part)
        tokens += part
        assert index.propose(4) == LookupIndex(tokens).propose(4) == search(tokens, 4, NGRAM)


def test_drafts_are_a_copy_of_the_text() -> None:
    index = LookupIndex([1, 2, 1])
    index.propose(2).append(9)
    assert index.propose(3) == [2, 1]


@given(texts.filter(bool), st.integers(1, 6), st.data())
@PROPERTY
def test_replay_is_proposing_at_every_start(tokens: list[int], k: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, len(tokens)))
    available, matches = lookup_matches(tokens, first, k)
    assert available.shape == (len(tokens),)
    assert matches.shape == (k, len(tokens))
    wanted = np.zeros((k, len(tokens)), dtype=bool)
    for start in range(first, len(tokens)):
        drafts = search(tokens[:start], k, NGRAM)
        assert available[start] == len(drafts)
        for step, draft in enumerate(drafts):
            if start + step < len(tokens):
                wanted[step, start + step] = draft == tokens[start + step]
    assert (matches == wanted).all()
    assert (available[:first] == 0).all()


def test_replay_sees_nothing_of_the_text_after_a_round() -> None:
    """The first round of a text may not copy from what it is about to emit."""
    available, matches = lookup_matches([1, 2, 1, 2, 1, 2], 2, 4)
    assert available.tolist() == [0, 0, 0, 2, 2, 2]
    assert matches[:, 3].tolist() == [True, False, False, False]
    assert [bool(matches[step, 4 + step]) for step in range(2)] == [True, True]
