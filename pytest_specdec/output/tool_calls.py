"""Tool calls are the same streamed and whole: arguments put together from the pieces are equal as
JSON.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from .differences import context_lines
from .results import OutputResult, failed, passed, unchecked
from .text_server import ServedText, TextServer
from .ties import unsteady

NAME = "tool calls"
LIMIT = 256
_NO_JSON = "are no JSON"
_PLACES = ("Paris", "Zürich", "São Paulo", "東京")
"""Names of one byte a character and of several."""
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "strict": True,
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
    one. Another call than the reference's may be a tie, and JSON that is broken is none.
    """
    calls, broken, skipped, doubt = 0, 0, "", ""
    for place, choice in itertools.product(_PLACES, ("required", "auto")):
        whole = _asked(server, place, choice)
        if not whole.calls or whole.finish == "length":
            skipped = _why_none(whole)
            continue
        calls += len(whole.calls)
        broken += sum(_parsed(call.arguments) is None for call in whole.calls)
        streamed = _asked(server, place, choice, stream=True)
        fault = call_fault(whole, streamed, "streamed")
        if fault is not None and unsteady(
            (partial(_asked, server, place, choice), whole),
            (partial(_asked, server, place, choice, stream=True), streamed),
        ):
            doubt = f"about {place}, {choice}: two equal requests have two answers"
            continue
        if fault is None and reference is not None:
            beside = call_fault(_asked(reference, place, choice), whole, "with the drafter")
            if beside is not None and beside[0].endswith(_NO_JSON):
                fault = beside
            elif beside is not None:
                doubt = f"about {place}, {choice}: {beside[0]} ({'; '.join(beside[1])})"
        if fault is not None:
            return failed(NAME, f"about {place}, {choice}: {fault[0]}", fault[1])
    if not calls:
        return unchecked(NAME, f"no tool was called in {2 * len(_PLACES)} requests: {skipped}")
    if doubt:
        return unchecked(NAME, f"{doubt}; a numerical tie may explain it, compare the texts")
    beside_it = "" if reference is None else ", and those of the reference"
    wrong = f"; {broken} have arguments that are no JSON in either" if broken else ""
    return passed(NAME, f"{calls} calls are the same streamed and whole{beside_it}{wrong}")


def call_fault(
    whole: ServedText, other: ServedText, name: str
) -> tuple[str, tuple[str, ...]] | None:
    """What is wrong with calls beside those of the whole answer, and the lines around it; None
    where they are the same. Arguments that are no JSON in the whole answer may be the model's own
    mistake, and are compared as they are.
    """
    if len(whole.calls) != len(other.calls):
        return f"{len(whole.calls)} calls whole and {len(other.calls)} {name}", ()
    for first, second in zip(whole.calls, other.calls, strict=True):
        if first.name != second.name:
            return f"the function is {first.name!r} whole and {second.name!r} {name}", ()
        expected, found = _parsed(first.arguments), _parsed(second.arguments)
        if expected is not None and found is None:
            return f"the arguments {name} {_NO_JSON}", (f"arguments: {second.arguments!r}",)
        same = expected == found if expected else first.arguments == second.arguments
        if not same:
            return (
                f"the arguments {name} are other ones",
                context_lines(first.arguments, second.arguments, names=("whole", name)),
            )
    if whole.finish != other.finish:
        return f"the reason is {whole.finish!r} whole and {other.finish!r} {name}", ()
    return None


def _parsed(arguments: str) -> list[Any] | None:
    """The arguments in a list of one; None where they are no JSON."""
    try:
        return [json.loads(arguments)]
    except ValueError:
        return None


def _asked(server: TextServer, place: str, choice: str, *, stream: bool = False) -> ServedText:
    messages: Sequence[dict[str, str]] = [
        {"role": "user", "content": f"What is the weather in {place} for the next two days?"}
    ]
    return server.called(messages, [TOOL], LIMIT, choice=choice, stream=stream)


def _why_none(answer: ServedText) -> str:
    if answer.finish == "length":
        return f"the answers reach their limit of {LIMIT} tokens"
    return "the model answers in words; serve one that calls tools"
