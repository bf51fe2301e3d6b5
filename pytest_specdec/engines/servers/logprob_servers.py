"""Log-probabilities of given tokens, asked of a served model: one dialect per kind of server.

Every dialect checks that the server scored the very tokens that were sent: a server that adds a
token of its own, leaves one out or serves something else than log-probabilities must not pass
silently.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from ...common.errors import RequestError
from .client import Client, ServerError

_LEAST = -9000.0
"""Log-probabilities at or below stand for minus infinity, which JSON cannot say; vLLM writes
-9999.
"""
POSITIVE = 1e-3
"""A log-probability above 0 that rounding explains; also how far apart two mentions of one token
may be.
"""
SUM_SLACK = 0.02
"""How far above 1 probabilities may add up: log-probabilities cut to bfloat16 are off by up to a
256th of themselves, which moves the sum over n tokens by at most log(n) / 256, that is 0.018 over
100.
"""
_CERTAIN = 1e-3
"""Nats below which a token counts as certain."""
_MANY = 8
"""Tokens from which on equal log-probabilities are no coincidence."""
_FORCE = 1e4
"""Added to a token's logit so that llama.cpp emits it; the log-probabilities are served without
it.
"""


@dataclasses.dataclass(frozen=True)
class ServedText:
    """Log-probabilities of a text's tokens from position `first` on, at temperature 1 over the
    whole vocabulary.

    `own[i]` is token `first + i`'s; `best[i]` the likeliest token there, or None where the server
    does not say its id; `top[i]` the largest log-probabilities there, descending. Each token is
    conditioned on the text before it.
    """

    first: int
    own: tuple[float, ...]
    best: tuple[int | None, ...]
    top: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """Which model a server serves: its name there, and all that the server says about its
    weights.
    """

    name: str
    identity: str


class Position(NamedTuple):
    """What a server gives at one position of a text."""

    token: int
    """The text's own one."""
    own: float | None
    """Its log-probability."""
    entries: Sequence[tuple[int | None, float]]
    """All tokens listed there with their log-probabilities, the likeliest first; None for a token
    whose id is not said.
    """


def impossible(position: Position) -> str | None:
    """Why no model gives these numbers, in words that follow the position's name; None where one
    can.
    """
    token, own, entries = position
    values = [value for _, value in entries]
    if (
        own is None
        or not own <= POSITIVE
        or not values
        or not all(value <= POSITIVE for value in values)
    ):
        return f"has log-probability {own} and top {values[:3]}"
    if own > max(values) + 1e-6:
        return f"has log-probability {own}, above the largest log-probability served, {max(values)}"
    given = [name for name, _ in entries if name is not None]
    repeated = [name for at, name in enumerate(given) if name in given[:at]]
    listed = next((value for name, value in entries if name == token), None)
    if repeated or (listed is not None and abs(_finite(listed) - _finite(own)) > POSITIVE):
        twice = repeated[0] if repeated else token
        both = (
            [value for name, value in entries if name == twice][:2] if repeated else [own, listed]
        )
        return f"has token {twice} twice, with log-probabilities {both[0]} and {both[1]}"
    # Where ids are not said, only a smaller value than all that are listed is surely another
    # token's.
    extra = [own] if listed is None and (given or own < min(values)) else []
    if (whole := math.fsum(map(math.exp, [*values, *extra]))) > 1 + SUM_SLACK:
        return (
            f"has probabilities that add up to {whole:.3g} over {len(values) + len(extra)} tokens"
        )
    return None


def constant(values: Sequence[float]) -> str | None:
    """Says so where many tokens all have one log-probability, as from a server that scores
    nothing.
    """
    if len(values) < _MANY or len(set(values)) > 1 or values[0] > -_CERTAIN:
        return None
    return (
        f"all {len(values)} tokens have the same log-probability, {values[0]:.4g}, as from a model "
        "with empty weights"
    )


class Scorer(abc.ABC):
    """One served model. `top` is how many of the largest log-probabilities are asked for at each
    position.
    """

    dialect: str
    again: int = 64
    """Tokens of a text that are scored a second time, see `asked_again`."""

    def __init__(self, client: Client, model: ServedModel, top: int = 1) -> None:
        self.client, self.model, self.top = client, model, max(top, 1)

    def score(self, ids: Sequence[int], first: int, *, fresh: bool = False) -> ServedText:
        """Score tokens `first` (at least 1) to the end; `fresh` keeps the server's prefix cache out
        of it where it can.

        Raises ServerError for an answer that is not about these tokens, or that no model can give.
        """
        told = self._checked(first, self._asked(ids, first, fresh))
        if len(told.own) > 1 and min(told.own) > -_CERTAIN:
            self._check_certain(ids, told)
        elif problem := constant(told.own):
            self.refuse(problem)
        return told

    @abc.abstractmethod
    def _asked(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        """What the server gives at each position. Raises ServerError for an answer that is not
        about these tokens.
        """

    def _checked(self, first: int, positions: Sequence[Position]) -> ServedText:
        for offset, position in enumerate(positions):
            if problem := impossible(position):
                self.refuse(f"position {first + offset} {problem}")
        top = [[value for _, value in position.entries][: self.top] for position in positions]
        return ServedText(
            first,
            tuple(_finite(position.own) for position in positions),
            tuple(position.entries[0][0] for position in positions),
            tuple(tuple(map(_finite, row)) for row in top),
        )

    def _check_certain(self, ids: Sequence[int], told: ServedText) -> None:
        """A text of which every token is certain: another token in the place of the last must not
        be likely, too.
        """
        last = ids[-1]
        other = next((token for token in reversed(ids) if token != last), last - 1 if last else 1)
        (instead,) = self._checked(
            len(ids) - 1, self._asked([*ids[:-1], other], len(ids) - 1, False)
        ).own
        if (whole := math.exp(told.own[-1]) + math.exp(instead)) > 1 + SUM_SLACK:
            self.refuse(
                f"all {len(told.own)} tokens of a text have probability 1, and the last one and "
                f"token {other} in its place "
                f"add up to {whole:.3g}"
            )

    def refuse(self, why: str) -> NoReturn:
        raise ServerError(
            f"{self.client.url} ({self.dialect}) does not serve log-probabilities of the tokens "
            f"that were sent: {why}; see "
            "docs/logprobs.md for the servers, versions and flags that do"
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

    def _asked(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        body = {
            "model": self.model.name,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": self.top,
        }
        if fresh:
            body["cache_salt"] = secrets.token_hex(8)  # servers that do not know it ignore it
        answer = self.client.post_json("/v1/completions", body, _PromptAnswer)
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
                key=lambda item: (-_number(item[1].logprob), item[1].rank or math.inf),
            )
            listed = [(self._token(name), _number(item.logprob)) for name, item in ranked]
            positions.append(Position(ids[position], entry.logprob, listed))
        return positions

    def _token(self, name: str) -> int:
        if not (name.isascii() and name.isdecimal()):
            self.refuse(f"{name!r} is no token id")
        return int(name)


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

    def _asked(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
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
            sorted(map(_number, (row or {}).values()), reverse=True) for row in served.top_logprobs
        ]
        return [
            Position(ids[at], served.token_logprobs[at], [(None, value) for value in rows[at]])
            for at in range(first, len(ids))
        ]


class _MetaInfo(msgspec.Struct, frozen=True):
    prompt_tokens: int
    input_token_logprobs: list[list[Any]] | None = None
    input_top_logprobs: list[list[list[Any]] | None] | None = None


class _GenerateAnswer(msgspec.Struct, frozen=True):
    meta_info: _MetaInfo


class SglangScorer(Scorer):
    """SGLang's `return_logprob` on /generate: one request a text."""

    dialect = "sglang"

    def _asked(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        # From position 0 on everything is computed, whatever its prefix cache holds.
        body = {
            "input_ids": list(ids),
            "sampling_params": {"temperature": 0, "max_new_tokens": 1, "ignore_eos": True},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": self.top,
        }
        meta = self.client.post_json("/generate", body, _GenerateAnswer).meta_info
        served, lists = meta.input_token_logprobs, meta.input_top_logprobs
        if (
            meta.prompt_tokens != len(ids)
            or served is None
            or lists is None
            or not len(served) == len(lists) == len(ids)
        ):
            self.refuse(
                f"{len(ids)} tokens were sent and {len(served) if served else 'none'} scored"
            )
        positions = []
        for position in range(first, len(ids)):
            value, token = self._pair(served[position])
            if token != ids[position]:
                self.refuse(
                    f"token {ids[position]} was sent at position {position} and {token} scored"
                )
            entries = sorted(
                ((_number(one), name) for one, name in map(self._pair, lists[position] or ())),
                reverse=True,
            )
            positions.append(Position(token, value, [(name, one) for one, name in entries]))
        return positions

    def _pair(self, triple: list[Any]) -> tuple[float | None, int]:
        """(log-probability, token) of SGLang's [log-probability, token, text]."""
        if (
            len(triple) < 2
            or not isinstance(triple[1], int)
            or not isinstance(triple[0], float | int | None)
        ):
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
    """llama.cpp serves no prompt's log-probabilities: each position is one request that emits the
    text's own token.

    A bias on that token's logit makes it the one emitted; `logprob` and `top_logprobs` come from
    the logits without the bias (`post_sampling_probs` off). The server's prompt cache makes each
    request one token's work. A server that drafts serves probabilities of a request's first token
    only, which is all that is asked for here. A token that ends inside a character comes without
    probabilities: there a plain letter is emitted and the token found in the whole vocabulary.
    """

    dialect = "llama.cpp"
    again = 16

    def _asked(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        return [
            self._position(ids[:position], ids[position], fresh)
            for position in range(first, len(ids))
        ]

    def _position(self, before: Sequence[int], token: int, fresh: bool) -> Position:
        """The token's log-probability behind `before`, and the largest ones there."""
        forced = self._forced(before, token, self.top, fresh)
        if forced is not None:
            return Position(
                token,
                forced.logprob,
                [(entry.id, _number(entry.logprob)) for entry in forced.top_logprobs],
            )
        forced = self._forced(before, self._letter, 1 << 24, fresh)
        everything = (
            []
            if forced is None
            else [(entry.id, _number(entry.logprob)) for entry in forced.top_logprobs]
        )
        return Position(
            token, next((value for name, value in everything if name == token), None), everything
        )

    def _forced(
        self, before: Sequence[int], token: int, largest: int, fresh: bool
    ) -> _Forced | None:
        """What comes with a token that is made to be emitted behind `before`; None where it comes
        without probabilities.
        """
        body = {
            "prompt": list(before),
            "n_predict": 1,
            "n_probs": largest,
            "logit_bias": [[token, _FORCE]],
            "top_k": 1,
            "temperature": 1.0,
            "post_sampling_probs": False,
            "cache_prompt": not fresh,
            "samplers": ["top_k"],
        }
        answer = self.client.post_json("/completion", body, _CompletionAnswer)
        if answer.tokens_evaluated != len(before):
            self.refuse(
                f"{len(before)} tokens were sent and it evaluated {answer.tokens_evaluated}"
            )
        if not answer.completion_probabilities:
            return None
        if (
            len(answer.completion_probabilities) != 1
            or answer.completion_probabilities[0].id != token
        ):
            names = [one.id for one in answer.completion_probabilities]
            self.refuse(
                f"token {token} was to be emitted at position {len(before)} and {names} came"
            )
        return answer.completion_probabilities[0]

    @functools.cached_property
    def _letter(self) -> int:
        """A token that is whole characters."""
        return self.client.post_json(
            "/tokenize", {"content": "a", "add_special": False}, _Tokens
        ).tokens[-1]


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
        facts = {"id": self.id, "root": self.root, "max_model_len": self.max_model_len} | (
            self.meta or {}
        )
        return ", ".join(
            f"{name}={value}" for name, value in sorted(facts.items()) if value is not None
        )


class _Models(msgspec.Struct, frozen=True):
    data: list[Card]


SCORERS: Mapping[str, type[Scorer]] = {
    "vllm": VllmScorer,
    "sglang": SglangScorer,
    "llamacpp": LlamaCppScorer,
}
"""By the owner that a server's /v1/models names; every other server is asked by `echo`."""


def scorer_at(client: Client, top: int = 1) -> Scorer:
    """The scorer of the one model that a server serves; which dialect it speaks is read from
    /v1/models.

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
        raise RequestError(
            f"{client.url} serves {len(cards)} models ({names}); name a server of one model"
        )
    return owners[0]


def _number(value: float | None) -> float:
    return -math.inf if value is None else value


def _finite(value: float | None) -> float:
    """Minus infinity where the server stands in a number for it."""
    return -math.inf if value is None or value <= _LEAST else min(float(value), 0.0)
