"""Texts of a server by the OpenAI API, as its users get them: whole and streamed, with stops, and
tool calls.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ..cases.prompts import Prompt
from ..common.errors import MeasurementError
from ..common.printable import KEY
from ..engines.servers.client import Client, ServerError
from ..engines.servers.logprob_servers import Card, served_model
from .languages import ServedToken

_TOP = 20
"""Likeliest tokens that are asked for at each place: as many as vLLM gives by default."""


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    """A tool call, or what one event adds to it."""

    function: _Function = _Function()
    index: int = 0


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Part(msgspec.Struct, frozen=True):
    index: int = 0
    text: str | None = None
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None
    token_ids: list[int] | None = None


class _Usage(msgspec.Struct, frozen=True):
    completion_tokens: int


class _Answer(msgspec.Struct, frozen=True):
    """An answer, or one event of a streamed one."""

    choices: list[_Part] = []
    usage: _Usage | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A call that the model makes, its arguments as they came: a JSON text."""

    name: str
    arguments: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedText:
    """One answer of a server."""

    text: str
    finish: str | None
    tokens: int | None
    """New tokens as the server counts them; None where it does not."""
    pieces: tuple[str, ...] = ()
    """The text of each event, where it was streamed."""
    calls: tuple[ToolCall, ...] = ()
    ids: tuple[int, ...] | None = None
    """New token ids, where they were asked for and are served."""
    rows: tuple[ServedToken, ...] | None = None
    """Its tokens with the likeliest ones at each place, where they were asked for and make the
    text.
    """


class TextServer:
    """A server of the OpenAI API. Safe to share among threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.url = client.url
        self._card: Card | None = None

    @classmethod
    def at(cls, url: str) -> TextServer:
        """The server at a URL, with the key of the environment."""
        return cls(Client(url, key=os.environ.get(KEY)))

    @property
    def client(self) -> Client:
        return self._client

    @property
    def model(self) -> str:
        """The name of its one model. Raises RequestError for a server of several."""
        return self._served.id

    @property
    def owner(self) -> str:
        """Which engine it is, as it says itself: `vllm`, `sglang`, `llamacpp`; may be empty."""
        return self._served.owned_by

    @property
    def _served(self) -> Card:
        if self._card is None:
            self._card = served_model(self._client)
        return self._card

    def greedy(
        self, prompt: Prompt, limit: int, *, stop: Sequence[str] = (), stream: bool = False
    ) -> ServedText:
        """The greedy text after a prompt, at most so many tokens, up to the first stop."""
        path, asked = _route(prompt)
        body = self._body(limit) | ({"stop": list(stop)} if stop else {})
        return self._answer(path, body | asked, stream)

    def choices(
        self,
        prompt: Prompt,
        limit: int,
        count: int,
        *,
        temperature: float = 0.0,
        seed: int = 1,
        stream: bool = False,
    ) -> dict[int, ServedText]:
        """Several texts after a prompt in one answer (`n`), by their index; each without a number
        of tokens, which servers count together.

        Example: `server.choices(prompt, 32, 2, stream=True)[1].text`.
        """
        path, asked = _route(prompt)
        body = self._body(limit) | asked | {"n": count, "temperature": temperature, "seed": seed}
        if stream:
            events = self._client.post_events(path, body | {"stream": True}, _Answer)
            return {index: known.text() for index, known in _by_index(events).items()}
        answer = self._client.post_json(path, body, _Answer)
        if len({part.index for part in answer.choices}) != len(answer.choices):
            raise MeasurementError(
                f"{self.url}{path} answers with several choices of one index; number them"
            )
        return {part.index: _text_of(part, None) for part in answer.choices}

    def greedy_ids(self, prompt: Prompt, limit: int, *, stop_ids: Sequence[int] = ()) -> ServedText:
        """The same with its token ids, where the server returns them, up to the first stop token.

        Example: `server.greedy_ids(prompt, 32, stop_ids=[13]).ids`.
        """
        body = self._body(limit) | {"return_token_ids": True}
        body |= {"stop_token_ids": list(stop_ids)} if stop_ids else {}
        path, asked = _route(prompt)
        return self._answer(path, body | asked, stream=False)

    def constrained(
        self,
        prompt: Prompt,
        limit: int,
        constraint: Mapping[str, Any],
        *,
        stream: bool = False,
        rows: bool = False,
    ) -> ServedText:
        """The greedy text under a constraint, given as fields of the request; with `rows` also its
        token ids and log-probabilities, where the server has them.
        """
        body = self._body(limit) | dict(constraint)
        path, said = _route(prompt)
        asked = body | said
        more: dict[str, Any] = {"logprobs": _TOP}
        if prompt.text is None:
            more = {"logprobs": True, "top_logprobs": _TOP}
        if not rows:
            return self._answer(path, asked, stream)
        try:
            return self._answer(path, asked | more | {"return_token_ids": True}, stream)
        except ServerError as error:
            if error.status not in (400, 422):
                raise
            return self._answer(path, asked, stream)

    def called(
        self,
        messages: Sequence[Mapping[str, str]],
        tools: Sequence[Mapping[str, Any]],
        limit: int,
        *,
        choice: str,
        stream: bool = False,
    ) -> ServedText:
        """The greedy answer to a conversation in which tools may be called."""
        body = self._body(limit) | {
            "messages": list(messages),
            "tools": list(tools),
            "tool_choice": choice,
        }
        return self._answer("/v1/chat/completions", body, stream)

    def likeliest(self, text: str) -> list[float]:
        """Log-probabilities of the two likeliest tokens after a text, the larger first; empty where
        the server does not report them.
        """
        body = self._body(1) | {"prompt": text, "logprobs": 2}
        parts = self._client.post_json("/v1/completions", body, _Answer).choices
        return _two_largest(parts[0].logprobs if parts else None)

    def _body(self, limit: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "max_tokens": limit,
            "temperature": 0,
            "seed": 1,
            "presence_penalty": 0,
            "frequency_penalty": 0,
        }

    def _answer(self, path: str, body: Mapping[str, Any], stream: bool) -> ServedText:
        if not stream:
            return _whole(self._client.post_json(path, body, _Answer), f"{self.url}{path}")
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        return _joined(self._client.post_events(path, asked, _Answer), f"{self.url}{path}")


def _route(prompt: Prompt) -> tuple[str, dict[str, Any]]:
    """Where a prompt is sent, and what says it there."""
    if prompt.text is None:
        return "/v1/chat/completions", {"messages": prompt.chat()}
    return "/v1/completions", {"prompt": prompt.text}


def _whole(answer: _Answer, where: str) -> ServedText:
    if len(answer.choices) != 1:
        raise MeasurementError(
            f"{where} answers with {len(answer.choices)} choices where one was asked for; look "
            "into its log"
        )
    tokens = None if answer.usage is None else answer.usage.completion_tokens
    return _text_of(answer.choices[0], tokens)


def _text_of(part: _Part, tokens: int | None) -> ServedText:
    """A choice that came whole."""
    message = part.message or _Message(content=part.text)
    return ServedText(
        text=message.content or "",
        finish=part.finish_reason,
        tokens=tokens,
        ids=_ids(part),
        rows=_rows(part.logprobs, message.content or ""),
        calls=tuple(
            ToolCall(name=call.function.name or "", arguments=call.function.arguments or "")
            for call in message.tool_calls or ()
        ),
    )


@dataclasses.dataclass(kw_only=True)
class _Stream:
    """What the events of a stream have said of one choice."""

    pieces: list[str] = dataclasses.field(default_factory=list)
    calls: dict[int, ToolCall] = dataclasses.field(default_factory=dict)
    finish: str | None = None

    def add(self, part: _Part) -> None:
        self.finish = part.finish_reason or self.finish
        delta = part.delta or _Message(content=part.text)
        if delta.content:
            self.pieces.append(delta.content)
        for call in delta.tool_calls or ():
            before = self.calls.get(call.index, ToolCall(name="", arguments=""))
            self.calls[call.index] = ToolCall(
                name=before.name + (call.function.name or ""),
                arguments=before.arguments + (call.function.arguments or ""),
            )

    def text(self, tokens: int | None = None) -> ServedText:
        return ServedText(
            text="".join(self.pieces),
            finish=self.finish,
            tokens=tokens,
            pieces=tuple(self.pieces),
            calls=tuple(self.calls[index] for index in sorted(self.calls)),
        )


def _by_index(events: Sequence[_Answer]) -> dict[int, _Stream]:
    """The choices out of a stream's events, put together as every client does."""
    streams: dict[int, _Stream] = {}
    for event in events:
        for part in event.choices:
            streams.setdefault(part.index, _Stream()).add(part)
    return streams


def _joined(events: Sequence[_Answer], where: str) -> ServedText:
    """One answer out of its events."""
    streams = _by_index(events)
    if len(streams) > 1:
        raise MeasurementError(
            f"{where}: the stream has choices {', '.join(map(str, sorted(streams)))} where one was "
            "asked for; look into the server's log"
        )
    (stream,) = streams.values() or (_Stream(),)
    if stream.finish is None:
        raise MeasurementError(
            f"{where}: the stream ends without a finish_reason; look into the server's log"
        )
    counted = [event.usage.completion_tokens for event in events if event.usage]
    return stream.text(counted[-1] if counted else None)


def _rows(logprobs: Mapping[str, Any] | None, text: str) -> tuple[ServedToken, ...] | None:
    """The rows whose tokens make the text; None where they do not, or where they may lack the
    spaces before words, as single tokens of some tokenizers do.
    """
    rows: list[ServedToken] = []
    for row in _all_rows(logprobs or {}):
        if len("".join(known.token for known in rows)) >= len(text):
            break
        rows.append(row)
    joined = "".join(row.token for row in rows)
    return tuple(rows) if joined == text and " " in text else None


def _all_rows(logprobs: Mapping[str, Any]) -> Iterator[ServedToken]:
    """The tokens in either form that servers use; none in any other."""
    tokens, tops, content = (logprobs.get(name) for name in ("tokens", "top_logprobs", "content"))
    if isinstance(tokens, list) and isinstance(tops, list):
        for token, top in zip(tokens, tops, strict=False):
            if isinstance(token, str) and isinstance(top, dict):
                yield ServedToken(token=token, likeliest=_numbers(top.items()))
    elif isinstance(content, list):
        for entry in content:
            if isinstance(entry, dict) and isinstance(entry.get("token"), str):
                listed = entry.get("top_logprobs") or ()
                pairs = [(top.get("token"), top.get("logprob")) for top in listed]
                yield ServedToken(token=entry["token"], likeliest=_numbers(pairs))


def _numbers(pairs: Iterable[tuple[Any, Any]]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in pairs
        if isinstance(name, str) and isinstance(value, int | float)
    }


def _ids(part: _Part) -> tuple[int, ...] | None:
    """The token ids of an answer, as vLLM or as llama.cpp returns them."""
    if part.token_ids is not None:
        return tuple(part.token_ids)
    content = (part.logprobs or {}).get("content")
    if not isinstance(content, list) or not content:
        return None
    ids = [entry.get("id") for entry in content if isinstance(entry, dict)]
    known = tuple(one for one in ids if isinstance(one, int))
    return known if len(known) == len(content) else None


def _two_largest(logprobs: Mapping[str, Any] | None) -> list[float]:
    """Of the first new token, in either form that servers use; empty in any other."""
    listed, content = ((logprobs or {}).get(name) for name in ("top_logprobs", "content"))
    values: list[Any] = []
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        values = list(listed[0].values())
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        tops = content[0].get("top_logprobs")
        values = [
            top.get("logprob")
            for top in (tops if isinstance(tops, list) else ())
            if isinstance(top, dict)
        ]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return sorted(numbers, reverse=True)[:2]
