"""A server of the OpenAI API on loopback that decodes speculatively, right or with one defect.

Its model is a table: a text for each prompt, in tokens of two bytes, so that characters lie across
tokens. Rounds emit one to four tokens, and everything that a server does with a round's tokens
(stops, limits, pieces of a stream, tool calls) is done here.
"""

from __future__ import annotations

import itertools
import json
import threading
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from helpers.playback import Answer, Play, playing
from helpers.served_grammars import GRAMMAR_DEFECTS, answer, language_of

LONG = 100
TEXTS = {
    "one": "Zürich, Genève, and the snow on the Säntis: a day's walk, no more. " * 3,
    "two": "for name in names:\n    print(naïve[name], façade, crème brûlée)\n" * 3,
    "three": "東京 and 京都 are far from São Paulo; the train does not go there. " * 3,
    "short": "It ends by itself, after few words.",
}
"""By prompt; `short` ends by EOS, the others at any limit below 100 tokens."""
ROUNDS = (1, 3, 2, 4, 3, 1, 4)
"""Tokens of the rounds, again and again."""
DEFECTS = {
    "tokens after EOS": "texts",
    "a draft EOS ends the request": "texts",
    "a stop is looked for after each round": "endings",
    "stops are ignored": "endings",
    "the limit hides EOS": "endings",
    "every text ends by stop": "endings",
    "a round goes beyond the limit": "endings",
    "a stop token inside a round is missed": "endings",
    "pieces are decoded alone": "streams",
    "the first token of a round is streamed": "streams",
    "choices have one index": "streams",
    "choices share the bytes of a character": "streams",
    "a choice ends without a reason": "streams",
    "a choice's rounds go to its neighbour": "streams",
    "a round's first token goes into a tool call": "tool calls",
    "another token in a batch of four": "batches",
    "rows end with the first of a batch": "batches",
    **dict.fromkeys(GRAMMAR_DEFECTS, "constraints"),
}
"""What the server does wrong, and the check that finds it."""


class ToySpeculation:
    """Answers requests; `defect` is one of `DEFECTS`, and `tied` makes the changed token of a batch
    as likely as the right one.
    """

    def __init__(self, defect: str = "", *, tied: bool = False) -> None:
        self._defect, self._tied = defect, tied
        self._lock, self._seen, self._four = threading.Lock(), 0, threading.Barrier(4)

    def plays(self) -> dict[str, list[Play]]:
        """For `helpers.playback.playing`."""
        models = json.dumps({"data": [{"id": "toy", "owned_by": "toy"}]})
        return {
            "/v1/models": [Answer(models)],
            "/v1/completions": [self._complete],
            "/v1/chat/completions": [self._call],
        }

    def _complete(self, body: dict[str, Any]) -> Answer:
        if (language := language_of(body)) is not None:
            choice, pieces = answer(language, body, self._defect)
            if not body.get("stream"):
                return Answer(json.dumps({"choices": [choice], "usage": usage(len(pieces))}))
            parts = [{"text": piece, "finish_reason": None} for piece in pieces]
            parts.append({"text": "", "finish_reason": choice["finish_reason"]})
            return Answer(streamed([{"choices": [part]} for part in parts]))
        if "logprobs" in body:
            second = -0.3 if self._tied else -4.0
            top = [{"a": -0.2, "b": second}]
            choice = {"text": "a", "finish_reason": "length", "logprobs": {"top_logprobs": top}}
            return Answer(json.dumps({"choices": [choice]}))
        rounds, finish, tokens = self._decoded(body, self._together())
        if "n" in body:
            return self._several(body["n"], rounds, finish, stream=body.get("stream", False))
        if not body.get("stream"):
            text = b"".join(token for emitted in rounds for token in emitted)
            choice: dict[str, Any] = {
                "text": text.decode(errors="replace"),
                "finish_reason": finish,
            }
            if body.get("return_token_ids"):
                choice["token_ids"] = [id_of(token) for emitted in rounds for token in emitted]
            return Answer(json.dumps({"choices": [choice], "usage": usage(tokens)}))
        events: list[dict[str, Any]] = [
            {"choices": [{"text": piece, "finish_reason": None}]} for piece in self._pieces(rounds)
        ]
        events.append({"choices": [{"text": "", "finish_reason": finish}]})
        return Answer(streamed([*events, {"choices": [], "usage": usage(tokens)}]))

    def _decoded(self, body: dict[str, Any], together: int) -> tuple[list[list[bytes]], str, int]:
        """What the rounds emit after stops and limit, the reason, and the number of tokens."""
        source = tokens_of(TEXTS[body["prompt"]])
        eos = body["prompt"] == "short"
        source += [b""] * eos  # a token without text
        limit, stops = body["max_tokens"], [stop.encode() for stop in body.get("stop", ())]
        if self._defect == "a draft EOS ends the request" and body["prompt"] == "two":
            source, eos = [*source[:17], b""], True
        if self._defect == "another token in a batch of four" and together == 4:
            source = [*source[:9], b"XY", *source[10:]]
        if self._defect == "rows end with the first of a batch" and together > 1:
            source, eos = [*source[:11], b""], True
        finish, emitted, rounds = "length", 0, list[list[bytes]]()
        sizes = iter(ROUNDS * LONG)
        while emitted < min(limit, len(source)):
            size = next(sizes)
            room = size if self._defect == "a round goes beyond the limit" else limit - emitted
            new = source[emitted : emitted + min(size, room)]
            if eos and emitted + len(new) >= len(source):
                finish = "stop"
                if self._defect == "tokens after EOS":
                    new = [*new, b"</", b"s>", b"\nU", b"se"]
                if self._defect == "the limit hides EOS" and emitted + size >= limit:
                    finish = "length"
            cut = self._stop_token(new, body.get("stop_token_ids", ()))
            if cut is not None:
                new, finish = new[: cut + 1], "stop"
            emitted += len(new)
            rounds.append(new)
            if cut is not None:
                break
            if self._defect != "stops are ignored" and self._stopped(rounds, stops):
                finish = "stop"
                break
        return rounds, "stop" if self._defect == "every text ends by stop" else finish, emitted

    def _stop_token(self, new: list[bytes], stops: Sequence[int]) -> int | None:
        """Where a round's tokens hold a stop token; None where they do not."""
        places = [at for at, token in enumerate(new) if id_of(token) in stops]
        if self._defect == "a stop token inside a round is missed":
            places = [at for at in places if at == len(new) - 1]
        return places[0] if places else None

    def _stopped(self, rounds: list[list[bytes]], stops: list[bytes]) -> bool:
        """Whether the text holds a stop; it is cut there, unless that is the defect."""
        text = b"".join(token for emitted in rounds for token in emitted)
        at = min((text.index(stop) for stop in stops if stop in text), default=None)
        if at is None:
            return False
        if self._defect != "a stop is looked for after each round":
            before = len(text) - sum(map(len, rounds[-1]))
            if at >= before:
                rounds[-1] = [text[before:at]]
            else:
                rounds[:] = [[text[:at]]]
        return True

    def _pieces(self, rounds: list[list[bytes]]) -> Iterator[str]:
        """The stream's pieces; bytes of an unfinished character wait for the next."""
        waiting = b""
        for emitted in rounds:
            new = b"".join(emitted)
            if self._defect == "the first token of a round is streamed":
                new = b"".join(emitted[:1])
            if self._defect == "pieces are decoded alone":
                yield new.decode(errors="replace")
                continue
            waiting += new
            whole = waiting.decode(errors="ignore")
            if whole and waiting.startswith(whole.encode()):
                waiting = waiting[len(whole.encode()) :]
                yield whole
        if waiting:
            yield waiting.decode(errors="replace")

    def _several(
        self, count: int, rounds: list[list[bytes]], finish: str, *, stream: bool
    ) -> Answer:
        """Choices of one request; those of a stream take turns, a round each."""
        whole = b"".join(token for emitted in rounds for token in emitted).decode(errors="replace")
        if not stream:
            choices = [
                {"index": index, "text": whole, "finish_reason": finish} for index in range(count)
            ]
            return Answer(json.dumps({"choices": choices}))
        decoders = [getincrementaldecoder("utf-8")("replace") for _ in range(count)]
        if self._defect == "choices share the bytes of a character":
            decoders = [decoders[0]] * count
        events = list[dict[str, Any]]()
        for number, (emitted, index) in enumerate(itertools.product([*rounds, None], range(count))):
            given = 0 if self._defect == "choices have one index" else index
            if self._defect == "a choice's rounds go to its neighbour" and number % 7 == 0:
                given = (index + 1) % count
            if emitted is not None:
                piece = decoders[index].decode(b"".join(emitted))
                events.append({"choices": [{"index": given, "text": piece}]})
            elif self._defect != "a choice ends without a reason" or index != 1:
                end = {"index": given, "text": "", "finish_reason": finish}
                events.append({"choices": [end]})
        return Answer(streamed(events))

    def _call(self, body: dict[str, Any]) -> Answer:
        place = body["messages"][0]["content"].split(" in ")[1].split(" for ")[0]
        arguments = json.dumps({"place": place, "days": 2, "metric": True}, ensure_ascii=False)
        name = body["tools"][0]["function"]["name"]
        if not body.get("stream"):
            calls = [{"index": 0, "function": {"name": name, "arguments": arguments}}]
            choice = {
                "message": {"content": None, "tool_calls": calls},
                "finish_reason": "tool_calls",
            }
            return Answer(json.dumps({"choices": [choice], "usage": usage(20)}))
        deltas = [{"name": name, "arguments": ""}]
        tokens, begin = [*arguments], 0
        for size in ROUNDS * LONG:
            new = tokens[begin : begin + size]
            begin += size
            kept = 1 if self._defect == "a round's first token goes into a tool call" else size
            if new:
                deltas.append({"name": None, "arguments": "".join(new[:kept])})
        events: list[dict[str, Any]] = [
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": delta}]}}]}
            for delta in deltas
        ]
        events.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
        return Answer(streamed(events))

    def _together(self) -> int:
        """How many requests are in the batch. With a defect of batches the first requests, one for
        each prompt, are answered alone, as many after them wait until four are there, and later
        ones, which ask again, are alone.
        """
        with self._lock:
            self._seen += 1
            alone = DEFECTS.get(self._defect) != "batches" or (
                not len(TEXTS) < self._seen <= 2 * len(TEXTS)
            )
        if alone:
            return 1
        self._four.wait(timeout=30)
        return 4


def id_of(token: bytes) -> int:
    """The id of a token of two bytes; that of EOS, which has none, is 0."""
    return int.from_bytes(token)


def tokens_of(text: str) -> list[bytes]:
    """Tokens of two bytes."""
    raw = text.encode()
    return [raw[at : at + 2] for at in range(0, len(raw), 2)]


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": tokens}


def streamed(events: list[dict[str, Any]]) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


@contextmanager
def toy_server(defect: str = "", *, tied: bool = False) -> Iterator[str]:
    """The address of a server that runs until the block ends."""
    with playing(ToySpeculation(defect, tied=tied).plays()) as stage:
        yield stage.url
