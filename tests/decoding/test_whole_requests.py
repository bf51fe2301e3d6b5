"""What a larger k gains on the embedded pair, by the rounds that each k counts, by the same starts,
and by whole requests.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.embedded import PROMPTS, Pair
from helpers.support import ROOT

from pytest_specdec import decode
from pytest_specdec.acceptance.renewal import (
    AcceptanceField,
    accepted_distribution,
    expected_counts,
    visits,
    with_requests,
)
from pytest_specdec.acceptance.rounds import counts_of_rounds, with_passes
from pytest_specdec.baselines.store import load
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import texts_of_prompts
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.records.text_set import TextSet

SMALL, LARGE = 8, 16


@pytest.fixture(scope="module")
def field(pair: Pair) -> AcceptanceField:
    """Of the stored texts of temperature 1 under the draft model without MTP heads."""
    stored = load(ROOT / "baselines" / "text" / "texts" / "t1-n128-s0.json", TextSet)
    assert stored is not None
    prompts = read_prompts(PROMPTS)
    texts = texts_of_prompts(
        prompts, pair.prompts, [stored.texts[prompt.key] for prompt in prompts]
    )
    (scores,) = text_scores(pair.target, [DrafterPlan(pair.draft, 0, LARGE)], texts, Sampling(1.0))
    return scores.field("rejection")


def same_starts(field: AcceptanceField, k: int) -> float:
    """Tokens per round of k drafts, of the rounds at starts that leave room for the larger k."""
    counted, _ = field.rounds_at(LARGE, "inside")
    survival = field.survival(np.full(counted.shape, k), k)
    weight = visits(field, counted, accepted_distribution(survival))
    return 1 + float(np.einsum("nt,nti->", weight, survival) / weight.sum())


def test_a_larger_k_gains_less_of_whole_requests_than_of_the_rounds_that_leave_it_room(
    field: AcceptanceField,
) -> None:
    small, large = (with_requests(expected_counts(field, k), field) for k in (SMALL, LARGE))
    assert large.acceptance_length / small.acceptance_length - 1 == pytest.approx(0.124, abs=6e-4)
    assert same_starts(field, LARGE) / same_starts(field, SMALL) - 1 == pytest.approx(
        0.116, abs=6e-4
    )
    assert large.request_length / small.request_length - 1 == pytest.approx(0.100, abs=6e-4)


def test_whole_requests_are_what_a_decoder_takes_for_them(pair: Pair) -> None:
    """At temperature 0 every pass of our own decoder is one that replay expects, to the last of a
    text.
    """
    decoded = decode(
        pair.target, pair.draft, pair.prompts, k=SMALL, temperature=0, new_tokens=48, batch_size=40
    )
    counted = with_passes(
        counts_of_rounds(decoded.texts, decoded.rounds, SMALL), decoded.texts, decoded.rounds
    )
    (scores,) = text_scores(
        pair.target, [DrafterPlan(pair.draft, 0, SMALL)], decoded.texts, Sampling(0.0)
    )
    greedy = scores.field("greedy")
    expected = with_requests(expected_counts(greedy, SMALL), greedy)
    assert counted.passes is not None
    assert expected.passes is not None
    assert counted.emitted is not None
    assert (counted.emitted == expected.emitted).all()
    assert counted.emitted.tolist() == [47] * len(decoded.texts)
    assert (counted.passes != expected.passes).mean() <= 0.02  # near-ties of batched decoding
    assert counted.passes.sum() == sum(map(len, decoded.rounds))
