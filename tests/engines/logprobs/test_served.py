"""Log-probability replay against real llama.cpp servers equals replay in this process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from helpers.embedded import PROMPTS, Pair
from helpers.llama_server import llama_server

from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text, texts_of_prompts
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.decoding.sampling import sample_new_tokens
from pytest_specdec.engines.logprobs.scores import served_scores
from pytest_specdec.engines.servers.client import Client
from pytest_specdec.engines.servers.logprob_servers import scorer_at
from pytest_specdec.engines.servers.scorer import Scorer

PROMPTS_USED, NEW = 12, 64
SAME = 1e-4
"""Nats; measured 1.5e-5 with keys and values in float32 (4e-3 with llama.cpp's default,
float16).
"""


@pytest.fixture(scope="module")
def scorers() -> Iterator[tuple[Scorer, Scorer]]:
    with llama_server("target") as target, llama_server("draft") as draft:
        yield scorer_at(Client(target)), scorer_at(Client(draft))


def _texts(pair: Pair, sampling: Sampling) -> tuple[Text, ...]:
    ids = pair.prompts[:PROMPTS_USED]
    new = sample_new_tokens(pair.target, ids, new_tokens=NEW, sampling=sampling, seed=0)
    return texts_of_prompts(read_prompts(PROMPTS)[:PROMPTS_USED], ids, new)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_served_numbers_are_those_of_the_models(
    pair: Pair, scorers: tuple[Scorer, Scorer], temperature: float
) -> None:
    sampling = Sampling(temperature)
    texts = _texts(pair, sampling)
    (replayed,) = text_scores(pair.target, [DrafterPlan(pair.draft, 0, 8)], texts, sampling)
    served = served_scores(*scorers, texts, sampling)
    for row, text in enumerate(texts):
        place = slice(text.first_draft, len(text.ids))
        np.testing.assert_allclose(
            served.target[row, place], replayed.target[row, place], atol=SAME
        )
        np.testing.assert_allclose(
            served.draft[row, 0, place], replayed.draft[row, 0, place], atol=SAME
        )
    rule = "rejection" if temperature else "greedy"
    for k in (1, 3, 8):
        here, there = (expected_counts(scores.field(rule), k) for scores in (replayed, served))
        assert there.acceptance_length == pytest.approx(
            here.acceptance_length, abs=1e-4 if temperature else 1e-12
        )
        assert there.total_rounds == pytest.approx(
            here.total_rounds, abs=1e-2 if temperature else 1e-9
        )


def test_a_top_k_at_another_temperature(pair: Pair, scorers: tuple[Scorer, Scorer]) -> None:
    sampling = Sampling(0.7, 20, 0.95)
    texts = _texts(pair, sampling)
    (replayed,) = text_scores(pair.target, [DrafterPlan(pair.draft, 0, 8)], texts, sampling)
    wide = [type(scorer)(scorer.client, scorer.model, 20) for scorer in scorers]
    served = served_scores(*wide, texts, sampling)
    here, there = (
        expected_counts(scores.field("rejection"), 4).acceptance_length
        for scores in (replayed, served)
    )
    assert there == pytest.approx(here, abs=1e-3)
