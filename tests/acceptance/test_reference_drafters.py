"""Drafters that know nothing, against enumeration over every token they might draft."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_specdec.acceptance.reference_drafters import reference_counts
from pytest_specdec.acceptance.scores import Scores
from pytest_specdec.cases.case import JudgedRange
from pytest_specdec.cases.texts import Text

TEXTS = (
    Text("a", "x", (9, 9, 1, 2, 1, 3), 2),
    Text("b", "x", (9, 1, 1, 2, 1, 1), 1),
)
P = np.array([[0, 0, 0, 0.5, 0.25, 0.1], [0, 0, 0.5, 0.125, 0.9, 0.4]])
"""The target's probability of each token that can be drafted."""


def scores(greedy: bool = False) -> Scores:
    target = np.zeros(P.shape) if greedy else np.log(np.where(P > 0, P, 1.0))
    return Scores(
        prompts=("a", "b"),
        categories=("x", "x"),
        target=target.astype(np.float32),
        draft=np.zeros((2, 1, 6), dtype=np.float32),
        starts=np.array([3, 2]),
        lengths=np.array([6, 6]),
    )


def test_uniform_guesses_accept_one_token_in_v_where_the_target_is_likelier() -> None:
    counts = reference_counts(scores(), TEXTS, vocabulary=4, k=1, rule="rejection").uniform
    first = [min(1, 0.25 / p) for p in (0.5, 0.25, 0.1)]  # at positions 3, 4 and 5 of text a
    starts = [1.0, 1 - first[0], 0.0]  # k = 1: an accepted draft skips the position after it
    starts[2] = starts[0] * first[0] + starts[1] * (1 - first[1])
    assert counts.rounds[0] == pytest.approx(sum(starts))
    assert counts.accepted[0, 0] == pytest.approx(float(np.dot(starts, first)))


def test_unigrams_are_those_of_the_other_texts() -> None:
    counts = reference_counts(scores(), TEXTS, vocabulary=4, k=1, rule="rejection").unigrams
    # Text b's drafted tokens are 1, 2, 1, 1: text a's 2, 1, 3 at positions 3 to 5 have shares 1/4,
    # 3/4 and 0.
    q = [0.25, 0.75, 0.0]
    first = [min(1, frequency / p) for frequency, p in zip(q, (0.5, 0.25, 0.1), strict=True)]
    starts = [1.0, 1 - first[0], first[0] + (1 - first[0]) * (1 - first[1])]
    assert counts.accepted[0, 0] == pytest.approx(float(np.dot(starts, first)))


def test_greedy_unigrams_draft_the_likeliest_token() -> None:
    counts = reference_counts(scores(greedy=True), TEXTS, vocabulary=4, k=1, rule="greedy").unigrams
    assert counts.accepted[0].tolist() == [
        1.0
    ]  # text b's likeliest token is 1, and text a has it once, at position 4
    assert reference_counts(
        scores(greedy=True), TEXTS, vocabulary=4, k=1, rule="greedy"
    ).uniform.accepted[0, 0] == pytest.approx((1.0 + 0.75 + 0.25 + 0.75 * 0.75) * 0.25)


def test_lookup_copies_what_followed_before() -> None:
    lookup = reference_counts(scores(), TEXTS, vocabulary=4, k=2, rule="rejection").lookup
    assert lookup is not None
    assert lookup.acceptance_length >= 1


def test_a_single_text_has_no_unigrams() -> None:
    several = scores()
    alone = Scores(
        several.prompts[:1],
        several.categories[:1],
        several.target[:1],
        several.draft[:1],
        several.starts[:1],
        several.lengths[:1],
    )
    assert (
        reference_counts(
            alone, TEXTS[:1], vocabulary=4, k=1, rule="rejection"
        ).unigrams.accepted.sum()
        == 0
    )


def test_judged_tokens_are_guessed_among_themselves() -> None:
    texts = [Text("a", "x", (0, 5, 0, 6, 0, 5), 0), Text("b", "x", (0, 6, 0, 5, 0, 6), 0)]
    judged_scores = Scores(
        prompts=("a", "b"),
        categories=("x", "x"),
        target=np.full((2, 3), math.log(0.5), dtype=np.float32),
        draft=np.zeros((2, 1, 3), dtype=np.float32),
        starts=np.array([1, 1]),
        lengths=np.array([3, 3]),
    )
    references = reference_counts(
        judged_scores, texts, vocabulary=100, k=1, rule="rejection", judged=JudgedRange(5, 7, 2)
    )
    assert references.lookup is None
    assert references.uniform.acceptance_rate == pytest.approx(
        1.0
    )  # two judged tokens, each as likely as the target has it
