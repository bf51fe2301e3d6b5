"""Stopping below a confidence: what the field expects beside what the decoder does, on the
decoder's own texts.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.embedded import Pair
from helpers.tiers import exhaustive

from pytest_specdec import decode
from pytest_specdec.acceptance.renewal import AcceptanceField
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.confidence import confidences
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.speedup.policies import Confidences, Drafting, confident

K = 6
LEAST = 1000
"""Rounds that a comparison of all prompts counts at least."""


Expected = tuple[AcceptanceField, Confidences]


@pytest.fixture(scope="module")
def known() -> dict[tuple[Text, ...], Expected]:
    """What is expected on texts, where another threshold has led to the same ones."""
    return {}


def expected_on(pair: Pair, texts: tuple[Text, ...], temperature: float) -> Expected:
    sampling = Sampling(temperature)
    (scores,) = text_scores(pair.target, [DrafterPlan(pair.draft, 0, K)], texts, sampling)
    sure = confidences(pair.target, pair.draft, texts, k=K, sampling=sampling)
    return scores.field("rejection" if temperature else "greedy"), sure


def counted(
    pair: Pair,
    known: dict[tuple[Text, ...], Expected],
    threshold: float,
    temperature: float,
    every: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(texts, 3) each: rounds, drafted and accepted tokens, as decoded and as expected on the same
    texts, those of every so many-th prompt.
    """
    decoded = decode(
        pair.target,
        pair.draft,
        pair.prompts[::every],
        k=K,
        temperature=temperature,
        new_tokens=64,
        batch_size=40,
        confidence=threshold,
    )
    if decoded.texts not in known:
        known[decoded.texts] = expected_on(pair, decoded.texts, temperature)
    field, sure = known[decoded.texts]
    real, expected = [], []
    for row, (text, played) in enumerate(zip(decoded.texts, decoded.rounds, strict=True)):
        # Our decoder drafts the text's last token, too, where just k are left: the target emits it
        # all the same.
        rooms = [len(text.ids) - played_round.start - 1 for played_round in played]
        drafted, accepted = (
            [
                min(getattr(played_round, name), room)
                for played_round, room in zip(played, rooms, strict=True)
            ]
            for name in ("drafted", "accepted")
        )
        real.append((len(played), sum(drafted), sum(accepted)))
        played_round = slice(row, row + 1)
        expected.append(
            totals(confident(field.select(played_round), sure.select(played_round), threshold, K))
        )
    return np.array(real), np.array(expected)


def totals(drafting: Drafting) -> tuple[float, float, float]:
    return drafting.rounds.sum(), drafting.rounds @ np.arange(K + 1), drafting.accepted


@pytest.mark.parametrize(
    ("threshold", "every"), [(0.5, 2), *(exhaustive(level, 1) for level in (0.2, 0.5, 0.8))]
)
def test_sampled_rounds_follow_the_expectation(
    pair: Pair, known: dict[tuple[Text, ...], Expected], threshold: float, every: int
) -> None:
    real, expected = counted(pair, known, threshold, 1.0, every)
    apart = real - expected
    z = apart.sum(0) / np.sqrt((apart**2).sum(0))
    assert real[:, 0].sum() >= LEAST / every
    assert (np.abs(z) < 3).all(), z


@pytest.mark.parametrize(
    ("threshold", "every"), [(0.3, 2), *(exhaustive(level, 1) for level in (0.3, 0.7))]
)
def test_greedy_rounds_are_the_expected_ones(
    pair: Pair, known: dict[tuple[Text, ...], Expected], threshold: float, every: int
) -> None:
    real, expected = counted(pair, known, threshold, 0.0, every)
    assert real[:, 0].sum() >= LEAST / 2 / every
    different = (np.abs(real - expected) > 1e-6).any(1)
    assert different.mean() <= 0.02  # near-ties of batched decoding


def test_a_low_threshold_never_stops_and_a_high_one_always_does(pair: Pair) -> None:
    prompts = pair.prompts[:4]
    options = {"k": 4, "new_tokens": 24, "seed": 1}
    always = decode(pair.target, pair.draft, prompts, confidence=1.1, **options)
    never = decode(pair.target, pair.draft, prompts, confidence=1e-9, **options)
    for decoded, drafted in ((always, 1), (never, 4)):
        for text, rounds in zip(decoded.texts, decoded.rounds, strict=True):
            room = [len(text.ids) - played.start for played in rounds]
            assert [played.drafted for played in rounds] == [
                drafted if left >= 4 else min(drafted, left - 1) for left in room
            ]
    assert [text.ids for text in never.texts] == [
        text.ids for text in decode(pair.target, pair.draft, prompts, **options).texts
    ]


def test_rows_of_a_batch_stop_each_for_itself(pair: Pair) -> None:
    prompts = pair.prompts[::10]
    together = decode(
        pair.target,
        pair.draft,
        prompts,
        k=4,
        new_tokens=32,
        temperature=0,
        confidence=0.5,
        batch_size=8,
    )
    for prompt, rounds in zip(prompts, together.rounds, strict=True):
        (alone,) = decode(
            pair.target, pair.draft, [prompt], k=4, new_tokens=32, temperature=0, confidence=0.5
        ).rounds
        assert alone == rounds


def test_only_plain_draft_models_have_a_confidence(pair: Pair) -> None:
    for drafter, depth in (("mtp", 2), (pair.draft, 1), ("prompt-lookup", 0)):
        with pytest.raises(
            RequestError, match="works only with a draft model without MTP heads; leave it out"
        ):
            decode(pair.target, drafter, pair.prompts[:1], k=2, depth=depth, confidence=0.5)


def test_confidences_are_probabilities_where_there_are_drafts(pair: Pair) -> None:
    decoded = decode(pair.target, pair.draft, pair.prompts[:3], k=3, new_tokens=12)
    sure = confidences(pair.target, pair.draft, decoded.texts, k=3, sampling=Sampling(1.0))
    assert isinstance(sure, Confidences)
    for row, text in enumerate(decoded.texts):
        inside = slice(text.first_draft, len(text.ids))
        assert ((sure.rejected[row, inside] > 0) & (sure.rejected[row, inside] <= 1)).all()
        assert ((sure.accepted[row, inside] > 0) & (sure.accepted[row, inside] <= 1)).all()
