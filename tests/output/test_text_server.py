"""Answers are put together as a client does, in any chunking, and what is no answer is refused."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from helpers.playback import Answer, playing
from helpers.served_texts import streamed
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_specdec.cases.prompts import Prompt
from pytest_specdec.common.errors import MeasurementError, SpecdecError
from pytest_specdec.output.served_endings import DIFFERS, limit_fault, stop_fault
from pytest_specdec.output.streams import check_streams, stream_fault
from pytest_specdec.output.text_server import (
    ServedText,
    TextServer,
    ToolCall,
    _Answer,
    _joined,
    _two_largest,
    _whole,
)
from pytest_specdec.output.tool_calls import call_fault

PLAIN = Prompt("0", "all", "a prompt")
ARGUMENTS = json.dumps({"place": "Zürich", "days": 2}, ensure_ascii=False)


def converted(events: list[dict[str, Any]]) -> list[_Answer]:
    import msgspec

    return [msgspec.convert(event, _Answer) for event in events]


def cut(text: str, places: list[int]) -> list[str]:
    """A text in pieces that end at the places."""
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[begin:end] for begin, end in itertools.pairwise(ends)]


@given(st.text(max_size=40), st.lists(st.integers(0, 60)), st.lists(st.integers(0, 60)))
@settings(deadline=None, max_examples=60)
def test_any_chunking_of_a_text_and_of_two_calls_is_the_whole_answer(
    text: str, places: list[int], others: list[int]
) -> None:
    calls = [{"name": "f", "arguments": ARGUMENTS}, {"name": "g", "arguments": "{}"}]
    whole = _whole(
        converted(
            [
                {
                    "choices": [
                        {
                            "message": {
                                "content": text,
                                "tool_calls": [{"function": call} for call in calls],
                            },
                            "finish_reason": "tool_calls",
                        }
                    ],
                    "usage": {"completion_tokens": 7},
                }
            ]
        )[0],
        "here",
    )
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in cut(text, places)]
    for index, call in enumerate(calls):
        begun = {"index": index, "function": {"name": call["name"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        for piece in cut(call["arguments"], others):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    events = [{"choices": [{"delta": delta}]} for delta in deltas]
    events.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    events.append({"choices": [], "usage": {"completion_tokens": 7}})
    joined = _joined(converted(events), "here")
    assert (joined.text, joined.calls, joined.tokens) == (whole.text, whole.calls, 7)
    assert stream_fault(whole, joined) is None
    assert call_fault(whole, joined, "streamed") is None


def text(words: str, finish: str = "length", tokens: int | None = None) -> ServedText:
    return ServedText(text=words, finish=finish, tokens=tokens)


WHOLE = text("one two three four", tokens=18)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (text("one ", "stop"), None),
        (text("one two", "stop"), None),
        (text("one ", "length"), "ends by its stop and the engine reports 'length', not 'stop'"),
        (text("one two three", "stop"), "continues after the stop: 6 more characters"),
        (text("on", "stop"), "ends 2 characters before its stop"),
        (text("ten", "stop"), DIFFERS),
    ],
)
def test_a_stop_cuts_the_text_without_it(found: ServedText, fault: str | None) -> None:
    said = stop_fault(WHOLE, found, "two")
    assert (said is None) if fault is None else (said is not None and fault in said)


ENDED = text("abc", "stop", 4)
HIDDEN = "ends by itself and the engine reports 'length', not 'stop'"


@pytest.mark.parametrize(
    ("whole", "found", "limit", "fault"),
    [
        (WHOLE, text("one two", tokens=7), 7, None),
        (WHOLE, text("one two\ufffd", tokens=7), 7, None),
        (WHOLE, text("one two", tokens=8), 7, "8 tokens are returned"),
        (WHOLE, text("one", tokens=3), 7, "ends after 3 tokens, and without the limit it goes on"),
        (WHOLE, text("one two", "stop", 7), 7, "the engine reports 'stop', not 'length'"),
        (WHOLE, text("one ten", tokens=7), 7, DIFFERS),
        (ENDED, text("abc", "stop", 4), 4, None),
        (ENDED, text("abc", "length", 3), 3, None),
        (ENDED, text("ab", "stop", 2), 2, "the limit ends the text and the engine reports 'stop'"),
        (ENDED, text("abc", "length", 4), 5, HIDDEN),
        (ENDED, text("abc", "length", 4), 4, None),
    ],
)
def test_a_limit_cuts_the_text_without_it(
    whole: ServedText, found: ServedText, limit: int, fault: str | None
) -> None:
    said = limit_fault(whole, found, limit)
    assert (said is None) if fault is None else (said is not None and fault in said)


def test_a_limit_hides_eos_only_where_eos_is_counted() -> None:
    """Else the limit may have ended the text one token before it."""
    found = text("abc", "length", 4)
    assert HIDDEN in str(limit_fault(ENDED, found, 4, eos_counted=True))
    assert limit_fault(ENDED, text("abc", "stop", 4), 4, eos_counted=True) is None


def test_reasons_and_numbers_of_tokens_of_a_stream_are_those_of_the_text() -> None:
    assert stream_fault(WHOLE, WHOLE) is None
    other = text(WHOLE.text, "stop", 18)
    assert "ends by 'stop' and the text by 'length'" in str(stream_fault(WHOLE, other))
    fewer = text(WHOLE.text, tokens=17)
    assert "counts 17 tokens and the text 18" in str(stream_fault(WHOLE, fewer))


class Listed:
    """Answers from two lists, of whole and of streamed texts; the last one again and again."""

    def __init__(self, whole: list[str], streamed_ones: list[str]) -> None:
        self._texts = {False: whole, True: streamed_ones}

    def greedy(
        self, prompt: Prompt, limit: int, *, stop: Any = (), stream: bool = False
    ) -> ServedText:
        waiting = self._texts[stream]
        return text(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    def likeliest(self, text: str) -> list[float]:
        return []


@pytest.mark.parametrize(
    ("whole", "streamed_ones", "outcome"),
    [
        (["ab"], ["ab"], "ok"),
        (["ab"], ["ac"], "failed"),
        (["ab", "ac"], ["ac"], "not checked"),
        (["ab"], ["ac", "ab"], "not checked"),
    ],
)
def test_a_stream_that_is_not_the_same_twice_is_not_accused(
    whole: list[str], streamed_ones: list[str], outcome: str
) -> None:
    server: Any = Listed(whole, streamed_ones)
    found = check_streams(server, (PLAIN,), 8)
    assert found.outcome.value == outcome
    assert ("in two equal requests" in found.words) == (outcome == "not checked")


def called(arguments: str, name: str = "f", finish: str = "tool_calls") -> ServedText:
    call = ToolCall(name=name, arguments=arguments)
    return ServedText(text="", finish=finish, tokens=None, calls=(call,))


@pytest.mark.parametrize(
    ("other", "fault"),
    [
        (called('{"days": 2, "place":"Zürich"}'), None),
        (called('{"days": 2, "place":"Z"}'), "the arguments streamed are other ones"),
        (called('{"days": 2, "place":'), "the arguments streamed are no JSON"),
        (called("null"), "the arguments streamed are other ones"),
        (called(ARGUMENTS, "g"), "the function is 'f' whole and 'g' streamed"),
        (called(ARGUMENTS, finish="stop"), "the reason is 'tool_calls' whole and 'stop' streamed"),
        (text(""), "1 calls whole and 0 streamed"),
    ],
)
def test_calls_are_equal_as_json(other: ServedText, fault: str | None) -> None:
    found = call_fault(called(ARGUMENTS), other, "streamed")
    assert (found is None) if fault is None else (found is not None and fault in found[0])


def test_arguments_that_the_model_itself_breaks_are_compared_as_they_are() -> None:
    assert call_fault(called('{"a"'), called('{"a"'), "streamed") is None
    fault = call_fault(called('{"a"'), called('{"a'), "streamed")
    assert fault is not None
    assert fault[0] == "the arguments streamed are other ones"


@pytest.mark.parametrize(
    ("logprobs", "two"),
    [
        ({"top_logprobs": [{"a": -0.5, "b": -1.5, "c": -0.25}]}, [-0.25, -0.5]),
        ({"content": [{"top_logprobs": [{"logprob": -1.0}, {"logprob": -2.0}]}]}, [-1.0, -2.0]),
        ({"top_logprobs": [None]}, []),
        ({"content": []}, []),
        ({"content": {"0": 1}}, []),
        ({"content": [{"top_logprobs": 5}]}, []),
        ({"content": [{"top_logprobs": [5, {"logprob": None}]}]}, []),
        ({"top_logprobs": 5}, []),
        (None, []),
    ],
)
def test_log_probabilities_are_read_in_both_forms(logprobs: Any, two: list[float]) -> None:
    assert _two_largest(logprobs) == two


MODELS = Answer(json.dumps({"data": [{"id": "m"}]}))


def asked(answer: Answer, *, stream: bool) -> ServedText:
    with playing({"/v1/models": [MODELS], "/v1/completions": [answer]}) as stage:
        return TextServer(stage.client()).greedy(PLAIN, 8, stream=stream)


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(MeasurementError, match="answers with 0 choices where one was asked for"):
        asked(Answer('{"choices": []}'), stream=False)
    with pytest.raises(MeasurementError, match="the stream ends without a finish_reason"):
        asked(Answer(streamed([{"choices": [{"text": "a"}]}])), stream=True)
    with pytest.raises(SpecdecError, match="JSON that cannot be read"):
        asked(Answer('{"choices": [{"text": 5}]}'), stream=False)


def test_a_chat_prompt_goes_to_the_chat_endpoint() -> None:
    answer = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    chat = Prompt("1", "all", None, ((("content", "hello"), ("role", "user")),))
    plays: dict[str, list[Any]] = {
        "/v1/models": [MODELS],
        "/v1/chat/completions": [Answer(json.dumps(answer))],
    }
    with playing(plays) as stage:
        found = TextServer(stage.client()).greedy(chat, 8, stop=["x"])
    (body,) = [body for path, body in stage.seen if path == "/v1/chat/completions"]
    assert (found.text, found.tokens) == ("hi", None)
    assert body["messages"] == [{"content": "hello", "role": "user"}]
    assert (body["stop"], body["temperature"], body["max_tokens"]) == (["x"], 0, 8)
