"""Several choices of one request: each index is a text of its own, refusals are named, and choices that
nobody asked for are refused.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from helpers.playback import Answer, playing
from helpers.served_texts import TEXTS, ToySpeculation, streamed, toy_server

from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.output.choices import COUNT, OTHERS, ServedChoices, check_choices
from pytest_specdec.output.text_server import TextServer

PROMPTS = tuple(Prompt(name, "all", name) for name in TEXTS)


def found_of(defect: str = "") -> ServedChoices:
    with toy_server(defect) as url:
        return check_choices(TextServer.at(url), PROMPTS, 48)


def test_choices_that_take_turns_in_a_stream_are_put_together_by_index() -> None:
    with toy_server() as url:
        server = TextServer.at(url)
        choices = server.choices(PROMPTS[0], 48, COUNT, stream=True)
        alone = server.greedy(PROMPTS[0], 48)
    assert sorted(choices) == [*range(COUNT)]
    assert {choice.text for choice in choices.values()} == {alone.text}
    assert all(len(choice.pieces) > 10 for choice in choices.values())
    assert found_of() == ServedChoices(streams=3)


@pytest.mark.parametrize(
    ("defect", "sentence"),
    [
        ("choices have one index", "the choices streamed have the indexes 0; give each piece"),
        ("choices share the bytes of a character", "keep the bytes of characters of each choice"),
        ("a choice ends without a reason", "choice 1 streamed has no finish_reason"),
        ("a choice's rounds go to its neighbour", "keep the tokens of choices apart"),
    ],
)
def test_mixed_choices_are_found(defect: str, sentence: str) -> None:
    found = found_of(defect)
    assert found.fault is not None
    assert found.fault.startswith("prompt 0, n = 3: ")
    assert sentence in found.fault


@pytest.mark.parametrize(
    ("refuses", "doubt"),
    [
        (lambda body: body["n"] > 1, "the server refuses n = 3"),
        (lambda body: body["temperature"] == 0, ""),  # as vLLM does
    ],
)
def test_a_refusal_is_named_and_one_greedy_choice_alone_is_asked_warmer(
    refuses: Any, doubt: str
) -> None:
    plays = ToySpeculation().plays()
    right = plays["/v1/completions"][0]
    assert callable(right)

    def answer(body: dict[str, Any]) -> Answer:
        return Answer("no", status=400) if "n" in body and refuses(body) else right(body)

    with playing({**plays, "/v1/completions": [answer]}) as stage:
        found = check_choices(TextServer.at(stage.url), PROMPTS, 48)
    assert (found.fault, found.doubt, found.streams) == (None, doubt, 0 if doubt else 3)


def test_choices_are_not_accused_of_what_sampling_does() -> None:
    plays = ToySpeculation().plays()
    right = plays["/v1/completions"][0]
    assert callable(right)

    def answer(body: dict[str, Any]) -> Answer:
        if body["temperature"] == 0 or (body["seed"] == 1 and body["n"] == 1):
            return Answer("no", status=400) if body.get("n", 1) > 1 else right(body)
        return right({**body, "prompt": "two"})

    with playing({**plays, "/v1/completions": [answer]}) as stage:
        found = check_choices(TextServer.at(stage.url), PROMPTS, 48)
    assert found == ServedChoices(doubt=OTHERS)


def test_a_server_that_ignores_n_is_not_judged() -> None:
    plays = ToySpeculation().plays()
    right = plays["/v1/completions"][0]
    assert callable(right)
    ignoring = [lambda body: right({name: body[name] for name in body if name != "n"})]
    with playing({**plays, "/v1/completions": ignoring}) as stage:
        found = check_choices(TextServer.at(stage.url), PROMPTS, 48)
    assert found == ServedChoices(doubt="the server ignores n = 3")


def test_choices_that_nobody_asked_for_are_refused() -> None:
    plays = ToySpeculation().plays()
    parts = [{"index": index, "text": "a", "finish_reason": "stop"} for index in (0, 1)]
    streams = [Answer(streamed([{"choices": [part]} for part in parts]))]
    twice = [Answer(json.dumps({"choices": [parts[0], parts[0]]}))]
    with playing({**plays, "/v1/completions": streams}) as stage:
        server = TextServer.at(stage.url)
        with pytest.raises(MeasurementError, match="the stream has choices 0, 1 where one was"):
            server.greedy(PROMPTS[0], 8, stream=True)
    with playing({**plays, "/v1/completions": twice}) as stage:
        server = TextServer.at(stage.url)
        with pytest.raises(MeasurementError, match="several choices of one index"):
            server.choices(PROMPTS[0], 8, COUNT)
