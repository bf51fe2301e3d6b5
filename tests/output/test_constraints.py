"""Constrained texts: the languages, what is judged without a reference, and servers that are not accused."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from helpers.playback import Answer, playing
from helpers.served_grammars import GRAMMAR_DEFECTS, TOKENS, allowed, schema_texts
from helpers.served_texts import TEXTS, ToySpeculation, toy_server
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.output.constraints import (
    CONSTRAINTS,
    ConstrainedTexts,
    check_constraints,
    constrained_texts,
)
from pytest_specdec.output.json_answers import begins_answer, schema_fault
from pytest_specdec.output.languages import LANGUAGES, ServedToken, judged_rows, tied
from pytest_specdec.output.results import CheckOutcome, OutputResult
from pytest_specdec.output.text_server import ServedText, TextServer

pytestmark = pytest.mark.slow

PROMPTS = tuple(Prompt(name, "all", name) for name in TEXTS)


def found(url: str, reference: str | None = None) -> OutputResult:
    server = TextServer.at(url)
    beside = None if reference is None else TextServer.at(reference)
    return check_constraints(server, constrained_texts(server, PROMPTS), PROMPTS, beside)


@pytest.mark.parametrize("name", LANGUAGES)
@settings(max_examples=20, deadline=None)
@given(choices=st.lists(st.integers(0, 10**6), min_size=60, max_size=60), other=st.text(max_size=4))
def test_a_language_reads_as_its_regular_expression(
    name: str, choices: list[int], other: str
) -> None:
    language, text = LANGUAGES[name], ""
    for choice in choices:
        assert language.viable(text)
        assert language.holds(text) == bool(re.fullmatch(language.regex, text))
        options = [token for token in allowed(language, text) if token in TOKENS[:-1]]
        assert all(language.viable(text + token) for token in options)
        if not options:
            break
        text += options[choice % len(options)]
    strange = text + other
    assert language.holds(strange) == bool(re.fullmatch(language.regex, strange))


@pytest.mark.parametrize("defect", GRAMMAR_DEFECTS)
def test_a_wrong_mask_is_found_without_a_reference(defect: str) -> None:
    """But where it leaves the masks out altogether: then nobody knows whether it has any."""
    with toy_server(defect) as url:
        result = found(url)
    expected = CheckOutcome.FAILED
    assert result.outcome is expected, result
    assert "prompt" in result.words


def test_a_mask_that_is_ignored_is_not_checked_and_wrong_beside_a_reference() -> None:
    class Ignoring(ToySpeculation):
        def _complete(self, body: dict[str, Any]) -> Answer:
            kept = {name: body[name] for name in body if name not in ("regex", "response_format")}
            return super()._complete({**kept, "logprobs": None} if "logprobs" in kept else kept)

    plays = Ignoring().plays()
    plays["/v1/completions"] = [
        lambda body: Ignoring()._complete(
            {name: value for name, value in body.items() if name != "logprobs"}
        )
    ]
    with playing(plays) as stage, toy_server() as reference:
        alone, beside = found(stage.url), found(stage.url, reference)
    assert alone.outcome is CheckOutcome.UNCHECKED
    assert "date is ignored in 4 texts" in alone.words
    assert beside.outcome is CheckOutcome.FAILED
    assert "the text is not in the language" in beside.words


def test_a_server_that_refuses_grammars_is_not_checked() -> None:
    plays = ToySpeculation().plays()
    right = plays["/v1/completions"][0]
    assert callable(right)

    def refuse(body: dict[str, Any]) -> Answer:
        return Answer("{}", status=400) if "regex" in body else right(body)

    plays["/v1/completions"] = [refuse]
    with playing(plays) as stage:
        result = found(stage.url)
    assert result.outcome is CheckOutcome.OK  # the schema is taken
    assert "date is refused" in result.words
    plays["/v1/completions"] = [Answer("{}", status=400)]
    with playing(plays) as stage:
        result = found(stage.url)
    assert result.outcome is CheckOutcome.UNCHECKED
    assert "start the server with a grammar backend" in result.words


def row(token: str, **likeliest: float) -> ServedToken:
    return ServedToken(token=token, likeliest=likeliest)


def test_rows_are_judged_where_several_letters_may_follow() -> None:
    date = LANGUAGES["date"]
    forced = [row("Mon", Mon=-1), row("d", day=-0.1, d=-9), row("ay", ay=-1)]
    assert judged_rows(date, forced, 0.5) == (1, None)
    late = [row("Mon", Sun=-1.0, Mon=-1.4)]
    assert judged_rows(date, late, 0.5) == (1, None)  # a tie
    number, fault = judged_rows(date, [row("Mon", Sun=-1.0, Mon=-3.0)], 0.5)
    assert number == 1
    assert fault == (0, "token 'Mon' after '' is not the likeliest allowed one, 'Sun'")
    _, fault = judged_rows(date, [row("Mon", Mon=-1), row("x", x=-1)], 0.5)
    assert fault == (1, "token 'x' after 'Mon' is not allowed")
    assert judged_rows(date, [row("Mon", the=-0.1, a=-2.0)], 0.5) == (0, None)


def test_a_text_that_parts_at_a_tie_is_not_accused() -> None:
    rows = [row("Mon", Mon=-1.0, Sun=-1.2, Tues=-3.0)]
    assert tied(LANGUAGES["date"], rows, "Sunday, 1", 0.5)
    assert not tied(LANGUAGES["date"], rows, "Tuesday", 0.5)
    assert not tied(LANGUAGES["date"], rows, "Wednesday", 0.5)


def test_answers_of_the_schema_are_read_whole_and_cut() -> None:
    for text in schema_texts():
        assert schema_fault(text, "stop") is None
        for end in range(len(text)):
            assert schema_fault(text[:end], "length") is None
            assert schema_fault(text[:end], "stop") is not None
    assert not begins_answer('{"place": "Rome')
    assert not begins_answer('{"days": 4')
    assert schema_fault('{"place": "Rome", "days": 2, "metric": true}', "stop") == (
        "place is 'Rome', which the schema does not allow"
    )
    assert schema_fault('{"place": "Paris", "days": true, "metric": true}', "stop") is not None
    assert schema_fault("[1]", "stop") == "the text is JSON of another form than the schema's"


def served(text: str, *tokens: str, finish: str = "stop") -> ServedText:
    rows = tuple(row(token) for token in tokens) or None
    return ServedText(text=text, finish=finish, tokens=None, rows=rows)


def test_an_end_token_with_letters_is_one_that_all_texts_that_stop_end_by() -> None:
    date, sentence, schema = CONSTRAINTS

    def end(*last: ServedText) -> str | None:
        texts = {date: [last[0]], sentence: [last[1]], schema: [served("{", finish="length")]}
        return ConstrainedTexts(texts=texts, refused={}).visible_end

    dates, sentences = "Monday, 3 June 1921.", "Abcdefghijklmnop!."
    assert end(served(dates, dates[:-1], "."), served(sentences, sentences[:-1], ".")) == "."
    assert end(served(dates, dates[:-1], "."), served(sentences)) == "."
    assert end(served(dates), served(sentences)) is None
    assert end(served(dates, dates[:-2], "1."), served(sentences)) == ""
    assert end(served(dates, dates[:-1], "."), served("Abcdefghijklmnop!?")) == ""
    assert end(served(dates[:-1]), served(sentences[:-1])) == ""


@pytest.mark.parametrize(
    ("owner", "fields"),
    [
        ("vllm", {"structured_outputs"}),
        ("sglang", {"regex"}),
        ("llamacpp", {"grammar"}),
        ("toy", {"structured_outputs", "regex", "grammar"}),
    ],
)
def test_each_kind_of_server_is_asked_in_its_own_words(owner: str, fields: set[str]) -> None:
    assert set(CONSTRAINTS[0].body(owner)) == fields
    assert "response_format" in CONSTRAINTS[-1].body(owner)
    json.dumps(CONSTRAINTS[-1].body(owner))


def test_rows_that_do_not_make_the_text_are_not_judged() -> None:
    """As those of tokenizers whose single tokens have lost the space before a word."""

    class Spaceless(ToySpeculation):
        pass

    plays = Spaceless().plays()
    right = plays["/v1/completions"][0]
    assert callable(right)

    def stripped(body: dict[str, Any]) -> Answer:
        answer = right(body)
        if not body.get("logprobs"):
            return answer
        read = json.loads(answer.body)
        rows = read["choices"][0]["logprobs"]
        rows["tokens"] = [token.strip() for token in rows["tokens"]]
        rows["top_logprobs"] = [
            {token.strip(): value for token, value in row.items()} for row in rows["top_logprobs"]
        ]
        return dataclasses.replace(answer, body=json.dumps(read))

    plays["/v1/completions"] = [stripped]
    with playing(plays) as stage:
        result = found(stage.url)
    assert result.outcome is CheckOutcome.OK, result
