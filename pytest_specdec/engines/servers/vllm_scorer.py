"""Log-probabilities of given tokens from vLLM and from OpenAI-compatible servers that echo."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import msgspec

from .payloads import PromptUsage
from .scorer import Position, Scorer, number


class _Entry(msgspec.Struct, frozen=True):
    logprob: float | None
    rank: int | None = None


class _VllmChoice(msgspec.Struct, frozen=True):
    prompt_logprobs: list[dict[str, _Entry] | None] | None = None


class _VllmAnswer(msgspec.Struct, frozen=True):
    choices: list[_VllmChoice]


class VllmScorer(Scorer):
    """vLLM's `prompt_logprobs` on /v1/completions: one request a text."""

    dialect = "vllm"

    def _positions(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        body = {
            "model": self.model.name,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": self.top,
        }
        if fresh:
            body["cache_salt"] = secrets.token_hex(8)  # servers that do not know it ignore it
        answer = self.client.post_json("/v1/completions", body, _VllmAnswer)
        served = answer.choices[0].prompt_logprobs if answer.choices else None
        if served is None or len(served) != len(ids):
            self.refuse(
                f"{len(ids)} tokens were sent and {'none' if served is None else len(served)} "
                "scored"
            )
        positions = []
        for position in range(first, len(ids)):
            entries = served[position] or {}
            entry = entries.get(str(ids[position]))
            if entry is None:
                self.refuse(
                    f"token {ids[position]} at position {position} is not among those scored, "
                    f"{list(entries)[:3]}"
                )
            ranked = sorted(
                entries.items(),
                key=lambda item: (-number(item[1].logprob), item[1].rank or math.inf),
            )
            listed = [(self._token(name), number(item.logprob)) for name, item in ranked]
            positions.append(Position(ids[position], entry.logprob, listed))
        return positions

    def _token(self, name: str) -> int:
        if not (name.isascii() and name.isdecimal()):
            self.refuse(f"{name!r} is not a token id")
        return int(name)


class _EchoLogprobs(msgspec.Struct, frozen=True):
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None] | None = None


class _EchoChoice(msgspec.Struct, frozen=True):
    logprobs: _EchoLogprobs | None = None


class _EchoAnswer(msgspec.Struct, frozen=True):
    choices: list[_EchoChoice]
    usage: PromptUsage


class EchoScorer(Scorer):
    """Any OpenAI-compatible /v1/completions with `echo` and `logprobs`: one request a text."""

    dialect = "echo"

    def _positions(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        body = {
            "model": self.model.name,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0,
            "echo": True,
            "logprobs": self.top,
        }
        answer = self.client.post_json("/v1/completions", body, _EchoAnswer)
        served = answer.choices[0].logprobs if answer.choices else None
        if answer.usage.prompt_tokens != len(ids):
            self.refuse(f"{len(ids)} tokens were sent and it counts {answer.usage.prompt_tokens}")
        if (
            served is None
            or served.top_logprobs is None
            or len(served.token_logprobs) not in (len(ids), len(ids) + 1)
        ):
            self.refuse(
                f"{len(ids)} tokens were sent and the echo scores "
                f"{len(served.token_logprobs) if served else 'none'}"
            )
        if len(served.top_logprobs) != len(served.token_logprobs):
            self.refuse(
                f"{len(served.token_logprobs)} log-probabilities come with "
                f"{len(served.top_logprobs)} lists"
            )
        rows = [
            sorted(map(number, (row or {}).values()), reverse=True) for row in served.top_logprobs
        ]
        return [
            Position(ids[at], served.token_logprobs[at], [(None, value) for value in rows[at]])
            for at in range(first, len(ids))
        ]
