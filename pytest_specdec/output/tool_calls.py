"""Tool calls are the same streamed and whole: arguments put together from the pieces are JSON, and
equal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from .differences import context_lines
from .results import OutputResult, failed, passed, unchecked
from .text_server import ServedText, TextServer, ToolCall

NAME = "tool calls"
LIMIT = 256
_PLACES = ("Paris", "Zürich", "São Paulo", "東京")
"""Names of one byte a character and of several."""
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "enum": list(_PLACES)},
                "days": {"type": "integer", "enum": [1, 2, 3]},
                "metric": {"type": "boolean"},
            },
            "required": ["place", "days", "metric"],
            "additionalProperties": False,
        },
    },
}


def check_tool_calls(server: TextServer, reference: TextServer | None = None) -> OutputResult:
    """Have a tool called, streamed and whole, and by a server that does not draft where there is
    one.
    """
    calls, skipped = 0, ""
    for place in _PLACES:
        for choice in ("required", "auto"):
            whole = _asked(server, place, choice)
            if not whole.calls or whole.finish == "length":
                skipped = _why_none(whole)
                continue
            calls += len(whole.calls)
            others = [("streamed", _asked(server, place, choice, stream=True))]
            if reference is not None:
                others.append(("without a drafter", _asked(reference, place, choice)))
            for name, other in others:
                if (fault := call_fault(whole, other, name)) is not None:
                    words, lines = fault
                    return failed(NAME, f"about {place}, {choice}: {words}", lines)
    if not calls:
        return unchecked(NAME, f"no tool was called in {2 * len(_PLACES)} requests: {skipped}")
    beside = "" if reference is None else ", and those of the reference"
    return passed(NAME, f"{calls} calls are the same streamed and whole{beside}")


def call_fault(
    whole: ServedText, other: ServedText, name: str
) -> tuple[str, tuple[str, ...]] | None:
    """What is wrong with calls beside those of the whole answer, and the lines around it; None
    where they are the same.
    """
    for words, call in (*_broken(whole, "whole"), *_broken(other, name)):
        return words, (f"arguments: {call.arguments!r}",)
    if len(whole.calls) != len(other.calls):
        return f"{len(whole.calls)} calls whole and {len(other.calls)} {name}", ()
    for first, second in zip(whole.calls, other.calls, strict=True):
        if first.name != second.name:
            return f"the function is {first.name!r} whole and {second.name!r} {name}", ()
        if json.loads(first.arguments) != json.loads(second.arguments):
            return (
                f"the arguments {name} are other ones",
                context_lines(first.arguments, second.arguments, names=("whole", name)),
            )
    if whole.finish != other.finish:
        return f"the reason is {whole.finish!r} whole and {other.finish!r} {name}", ()
    return None


def _broken(answer: ServedText, name: str) -> Iterator[tuple[str, ToolCall]]:
    for call in answer.calls:
        try:
            parsed = json.loads(call.arguments)
        except ValueError:
            yield f"the arguments {name} are no JSON", call
        else:
            if not isinstance(parsed, dict):
                yield f"the arguments {name} are no JSON object", call


def _asked(server: TextServer, place: str, choice: str, *, stream: bool = False) -> ServedText:
    messages: Sequence[dict[str, str]] = [
        {"role": "user", "content": f"What is the weather in {place} for the next two days?"}
    ]
    return server.called(messages, [TOOL], LIMIT, choice=choice, stream=stream)


def _why_none(answer: ServedText) -> str:
    if answer.finish == "length":
        return f"the answers reach their limit of {LIMIT} tokens"
    return "the model answers in words; serve one that calls tools"
