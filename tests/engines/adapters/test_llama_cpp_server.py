"""The adapter on real llama.cpp servers: every round is replay's, synthetic acceptance is
recovered, a death is survived.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from helpers.embedded import PROMPTS, Pair
from helpers.llama_server import llama_server

from pytest_specdec.acceptance.renewal import sample_rounds
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.cases.texts import Text
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.engines.adapter_api import (
    EngineSetup,
    GenerationRequest,
    PromptRequest,
    Reported,
)
from pytest_specdec.engines.adapters.llama_cpp_server import LlamaCppServerAdapter
from pytest_specdec.engines.counting.checks import check_reported
from pytest_specdec.engines.counting.normalise import starts_of
from pytest_specdec.engines.servers.client import Client, RetryPolicy, ServerError

K, NEW = 3, 64
RATES = (0.8, 0.5, 0.25)


def _request(
    pair: Pair, temperature: float = 0.0, prompts: int = 20, seed: int = 0
) -> GenerationRequest:
    requests = [
        PromptRequest(prompt, tuple(ids))
        for prompt, ids in zip(read_prompts(PROMPTS), pair.prompts, strict=True)
    ][:prompts]
    return GenerationRequest(
        prompts=requests,
        k=K,
        depth=0,
        target="target",
        drafter="draft",
        sampling=Sampling(temperature),
        new_tokens=NEW,
        seed=seed,
        rule="greedy",
    )


def _texts(server: LlamaCppServerAdapter, request: GenerationRequest) -> list[Reported]:
    texts = [text for text in server.run(request) if isinstance(text, Reported)]
    for text in texts:
        check_reported(text, request)
    return texts


@pytest.fixture(scope="module")
def server() -> Iterator[LlamaCppServerAdapter]:
    with llama_server("target", "draft") as url:
        yield LlamaCppServerAdapter(EngineSetup(url))


def test_greedy_rounds_are_those_of_replay(pair: Pair, server: LlamaCppServerAdapter) -> None:
    request = _request(pair)
    reported_texts = _texts(server, request)
    assert {text.altered for text in reported_texts} == {None}
    texts = [
        Text(text.key, "all", (*text.prompt_ids, *text.new_ids), len(text.prompt_ids))
        for text in reported_texts
    ]
    (scores,) = text_scores(pair.target, [DrafterPlan(pair.draft, 0, K)], texts, request.sampling)
    expected = sample_rounds(scores.field("greedy"), K, np.random.default_rng())
    for text, rounds in zip(reported_texts, expected, strict=True):
        # Near the length limit the server drafts fewer tokens.
        whole = [
            (played.start, played.accepted) for played in starts_of(text) if played.drafted == K
        ]
        assert len(whole) >= 5
        assert whole == rounds[: len(whole)]
    for text in reported_texts:
        assert sum(played.accepted + 1 for played in text.rounds or ()) == len(text.new_ids) - 1


def test_sampled_texts_are_repeatable(pair: Pair, server: LlamaCppServerAdapter) -> None:
    request = _request(pair, temperature=1.0, prompts=6)
    first, second = (_texts(server, request) for _ in range(2))
    assert [text.new_ids for text in first] == [text.new_ids for text in second]
    assert [text.new_ids for text in first] != [
        text.new_ids for text in _texts(server, _request(pair, 1.0, 6, seed=77))
    ]


def test_synthetic_acceptance_is_recovered_and_named(pair: Pair) -> None:
    with llama_server("target", "draft", ",".join(map(str, RATES))) as url:
        reported_texts = _texts(
            LlamaCppServerAdapter(EngineSetup(url)), _request(pair, prompts=40, seed=1)
        )
    assert all(
        text.altered and text.altered.startswith("synthetic acceptance") for text in reported_texts
    )
    rounds = [
        played for text in reported_texts for played in text.rounds or () if played.drafted == K
    ]
    for step, rate in enumerate(RATES):
        measured = np.mean([played.accepted > step for played in rounds])
        error = np.sqrt(rate * (1 - rate) / len(rounds))
        assert abs(measured - rate) < 3 * error, (step, measured, rate, error)


def test_texts_before_a_death_are_handed_over(pair: Pair) -> None:
    patience = RetryPolicy(tries=2, sleep=lambda seconds: None)
    with llama_server("target", "draft") as url:
        texts = LlamaCppServerAdapter(EngineSetup(url), Client(url, patience=patience)).run(
            _request(pair)
        )
        kept = [next(texts) for _ in range(3)]
    with pytest.raises(ServerError, match="see that the server runs and look into its log"):
        next(texts)
    assert len(kept) == 3
