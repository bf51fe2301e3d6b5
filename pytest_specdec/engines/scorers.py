"""Log-probabilities of given tokens, asked of a served model: one dialect per kind of server.

Every dialect checks that the server scored the very tokens that were sent: a server that adds a token of its own,
leaves one out or serves something else than log-probabilities must not pass silently.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from ..errors import RequestError
from .http import Client, ServerError

_LEAST = -9000.0
"""Log-probabilities at or below stand for minus infinity, which JSON cannot say; vLLM writes -9999."""
_FORCE = 1e4
"""Added to a token's logit so that llama.cpp emits it; the log-probabilities are served without it."""


@dataclasses.dataclass(frozen=True)
class ServedText:
    """Log-probabilities of a text's tokens from position `first` on, at temperature 1 over the whole vocabulary.

    `own[i]` is token `first + i`'s; `best[i]` the likeliest token there, or None where the server does not say its id;
    `top[i]` the largest log-probabilities there, descending. Each token is conditioned on the text before it.
    """

    first: int
    own: tuple[float, ...]
    best: tuple[int | None, ...]
    top: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """Which model a server serves: its name there, and all that the server says about its weights."""

    name: str
    identity: str


class Scorer(abc.ABC):
    """One served model. `top` is how many of the largest log-probabilities are asked for at each position."""

    dialect: str

    def __init__(self, client: Client, model: ServedModel, top: int = 1) -> None:
        self.client, self.model, self.top = client, model, max(top, 1)

    @abc.abstractmethod
    def score(self, ids: Sequence[int], first: int) -> ServedText:
        """Score tokens `first` (at least 1) to the end. Raises ServerError for an answer that is not about these tokens."""

    def _told(self, first: int, own: list[float | None], best: list[int | None], top: list[list[float]]) -> ServedText:
        """What was served, checked. Raises ServerError for a missing or positive log-probability, or too short a list."""
        for offset, (value, largest) in enumerate(zip(own, top, strict=True)):
            if value is None or not value <= 1e-3 or not largest or not largest[0] <= 1e-3:
                self.refuse(f"position {first + offset} has log-probability {value} and top {largest[:3]}")
            if value > largest[0] + 1e-6:
                self.refuse(f"position {first + offset}: {value} is above the largest log-probability served, {largest[0]}")
        return ServedText(first, tuple(map(_finite, own)), tuple(best), tuple(tuple(map(_finite, row)) for row in top))

    def refuse(self, why: str) -> NoReturn:
        raise ServerError(
            f"{self.client.url} ({self.dialect}) does not serve log-probabilities of the tokens that were sent: {why}; "
            "see docs/engines.md for the versions and flags that do"
        )


class _Entry(msgspec.Struct, frozen=True):
    logprob: float | None
    rank: int | None = None


class _PromptChoice(msgspec.Struct, frozen=True):
    prompt_logprobs: list[dict[str, _Entry] | None] | None = None


class _PromptAnswer(msgspec.Struct, frozen=True):
    choices: list[_PromptChoice]


class VllmScorer(Scorer):
    """vLLM's `prompt_logprobs` on /v1/completions: one request a text."""

    dialect = "vllm"

    def score(self, ids: Sequence[int], first: int) -> ServedText:
        body = {"model": self.model.name, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": self.top}
        answer = self.client.post_json("/v1/completions", body, _PromptAnswer)
        served = answer.choices[0].prompt_logprobs if answer.choices else None
        if served is None or len(served) != len(ids):
            self.refuse(f"{len(ids)} tokens were sent and {'none' if served is None else len(served)} scored")
        own: list[float | None] = []
        best: list[int | None] = []
        top: list[list[float]] = []
        for position in range(first, len(ids)):
            entries = served[position] or {}
            entry = entries.get(str(ids[position]))
            if entry is None:
                self.refuse(f"token {ids[position]} at position {position} is not among those scored, {list(entries)[:3]}")
            ranked = sorted(entries.items(), key=lambda item: (-_number(item[1].logprob), item[1].rank or math.inf))
            own.append(entry.logprob)
            best.append(int(ranked[0][0]))
            top.append([_number(item.logprob) for _, item in ranked][: self.top])
        return self._told(first, own, best, top)


class _EchoLogprobs(msgspec.Struct, frozen=True):
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None] | None = None


class _EchoChoice(msgspec.Struct, frozen=True):
    logprobs: _EchoLogprobs | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int


class _EchoAnswer(msgspec.Struct, frozen=True):
    choices: list[_EchoChoice]
    usage: _Usage


class EchoScorer(Scorer):
    """Any OpenAI-compatible /v1/completions with `echo` and `logprobs`: one request a text."""

    dialect = "echo"

    def score(self, ids: Sequence[int], first: int) -> ServedText:
        body = {
            "model": self.model.name, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": self.top,
        }  # fmt: skip
        answer = self.client.post_json("/v1/completions", body, _EchoAnswer)
        served = answer.choices[0].logprobs if answer.choices else None
        if answer.usage.prompt_tokens != len(ids):
            self.refuse(f"{len(ids)} tokens were sent and it counts {answer.usage.prompt_tokens}")
        if served is None or served.top_logprobs is None or len(served.token_logprobs) not in (len(ids), len(ids) + 1):
            self.refuse(f"{len(ids)} tokens were sent and the echo scores {len(served.token_logprobs) if served else 'none'}")
        if len(served.top_logprobs) != len(served.token_logprobs):
            self.refuse(f"{len(served.token_logprobs)} log-probabilities come with {len(served.top_logprobs)} lists")
        rows = [sorted(map(_number, (row or {}).values()), reverse=True)[: self.top] for row in served.top_logprobs]
        return self._told(first, served.token_logprobs[first : len(ids)], [None] * (len(ids) - first), rows[first : len(ids)])


class _MetaInfo(msgspec.Struct, frozen=True):
    prompt_tokens: int
    input_token_logprobs: list[list[Any]] | None = None
    input_top_logprobs: list[list[list[Any]] | None] | None = None


class _GenerateAnswer(msgspec.Struct, frozen=True):
    meta_info: _MetaInfo


class SglangScorer(Scorer):
    """SGLang's `return_logprob` on /generate: one request a text."""

    dialect = "sglang"

    def score(self, ids: Sequence[int], first: int) -> ServedText:
        body = {
            "input_ids": list(ids), "sampling_params": {"temperature": 0, "max_new_tokens": 1, "ignore_eos": True},
            "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": self.top,
        }  # fmt: skip
        meta = self.client.post_json("/generate", body, _GenerateAnswer).meta_info
        served, lists = meta.input_token_logprobs, meta.input_top_logprobs
        if meta.prompt_tokens != len(ids) or served is None or lists is None or not len(served) == len(lists) == len(ids):
            self.refuse(f"{len(ids)} tokens were sent and {len(served) if served else 'none'} scored")
        own: list[float | None] = []
        best: list[int | None] = []
        top: list[list[float]] = []
        for position in range(first, len(ids)):
            value, token = self._pair(served[position])
            if token != ids[position]:
                self.refuse(f"token {ids[position]} was sent at position {position} and {token} scored")
            entries = sorted(((_number(one), name) for one, name in map(self._pair, lists[position] or ())), reverse=True)
            own.append(value)
            best.append(entries[0][1] if entries else None)
            top.append([one for one, _ in entries])
        return self._told(first, own, best, top)

    def _pair(self, triple: list[Any]) -> tuple[float | None, int]:
        """(log-probability, token) of SGLang's [log-probability, token, text]."""
        if len(triple) < 2 or not isinstance(triple[1], int) or not isinstance(triple[0], float | int | None):
            self.refuse(f"{triple!r} is no pair of a log-probability and a token")
        return (None if triple[0] is None else float(triple[0])), triple[1]


class _Top(msgspec.Struct, frozen=True):
    id: int
    logprob: float | None


class _Forced(msgspec.Struct, frozen=True):
    id: int
    logprob: float | None
    top_logprobs: list[_Top]


class _CompletionAnswer(msgspec.Struct, frozen=True):
    tokens_evaluated: int
    completion_probabilities: list[_Forced] = []


class _Tokens(msgspec.Struct, frozen=True):
    tokens: list[int]


class LlamaCppScorer(Scorer):
    """llama.cpp serves no prompt's log-probabilities: each position is one request that emits the text's own token.

    A bias on that token's logit makes it the one emitted; `logprob` and `top_logprobs` come from the logits without the
    bias (`post_sampling_probs` off). The server's prompt cache makes each request one token's work. A server that drafts
    serves probabilities of a request's first token only, which is all that is asked for here. A token that ends inside a
    character comes without probabilities: there a plain letter is emitted and the token found in the whole vocabulary.
    """

    dialect = "llama.cpp"

    def score(self, ids: Sequence[int], first: int) -> ServedText:
        own: list[float | None] = []
        best: list[int | None] = []
        top: list[list[float]] = []
        for position in range(first, len(ids)):
            value, entries = self._position(ids[:position], ids[position])
            own.append(value)
            best.append(entries[0].id if entries else None)
            top.append([_number(entry.logprob) for entry in entries])
        told = self._told(first, own, best, top)
        if len(own) > 1 and not any(own):
            self.refuse("every token has probability 1, so the bias on the token sent is in what is served")
        return told

    def _position(self, before: Sequence[int], token: int) -> tuple[float | None, list[_Top]]:
        """The token's log-probability behind `before`, and the largest ones there."""
        forced = self._forced(before, token, self.top)
        if forced is not None:
            return forced.logprob, forced.top_logprobs
        forced = self._forced(before, self._letter, 1 << 24)
        everything = [] if forced is None else forced.top_logprobs
        own = next((entry.logprob for entry in everything if entry.id == token), None)
        return own, everything[: self.top]

    def _forced(self, before: Sequence[int], token: int, largest: int) -> _Forced | None:
        """What comes with a token that is made to be emitted behind `before`; None where it comes without probabilities."""
        body = {
            "prompt": list(before), "n_predict": 1, "n_probs": largest, "logit_bias": [[token, _FORCE]], "top_k": 1,
            "temperature": 1.0, "post_sampling_probs": False, "cache_prompt": True, "samplers": ["top_k"],
        }  # fmt: skip
        answer = self.client.post_json("/completion", body, _CompletionAnswer)
        if answer.tokens_evaluated != len(before):
            self.refuse(f"{len(before)} tokens were sent and it evaluated {answer.tokens_evaluated}")
        if not answer.completion_probabilities:
            return None
        if len(answer.completion_probabilities) != 1 or answer.completion_probabilities[0].id != token:
            names = [one.id for one in answer.completion_probabilities]
            self.refuse(f"token {token} was to be emitted at position {len(before)} and {names} came")
        return answer.completion_probabilities[0]

    @functools.cached_property
    def _letter(self) -> int:
        """A token that is whole characters."""
        return self.client.post_json("/tokenize", {"content": "a", "add_special": False}, _Tokens).tokens[-1]


class Card(msgspec.Struct, frozen=True):
    """A model that a server serves."""

    id: str
    owned_by: str = ""
    root: str | None = None
    parent: str | None = None
    """The model that an adapter belongs to; vLLM lists both."""
    max_model_len: int | None = None
    meta: dict[str, Any] | None = None

    @property
    def identity(self) -> str:
        """All that tells weights apart, in words."""
        facts = {"id": self.id, "root": self.root, "max_model_len": self.max_model_len} | (self.meta or {})
        return ", ".join(f"{name}={value}" for name, value in sorted(facts.items()) if value is not None)


class _Models(msgspec.Struct, frozen=True):
    data: list[Card]


SCORERS: Mapping[str, type[Scorer]] = {"vllm": VllmScorer, "sglang": SglangScorer, "llamacpp": LlamaCppScorer}
"""By the owner that a server's /v1/models names; every other server is asked by `echo`."""


def scorer_at(client: Client, top: int = 1) -> Scorer:
    """The scorer of the one model that a server serves; which dialect it speaks is read from /v1/models.

    Raises RequestError for a server of several models.
    """
    card = served_model(client)
    return SCORERS.get(card.owned_by, EchoScorer)(client, ServedModel(card.id, card.identity), top)


def served_model(client: Client) -> Card:
    """The one model that a server serves. Raises RequestError for a server of several."""
    cards = client.get_json("/v1/models", _Models).data
    owners = [card for card in cards if card.parent is None]
    if len(owners) != 1:
        names = ", ".join(card.id for card in cards) or "none"
        raise RequestError(f"{client.url} serves {len(cards)} models ({names}); name a server of one model")
    return owners[0]


def _number(value: float | None) -> float:
    return -math.inf if value is None else value


def _finite(value: float | None) -> float:
    """Minus infinity where the server stands in a number for it."""
    return -math.inf if value is None or value <= _LEAST else min(float(value), 0.0)
