"""Log-probabilities of given tokens as a server reports them, and what every dialect checks.

Every dialect checks that the server scored the very tokens that were sent: a server that adds a
token of its own, leaves one out or serves something else than log-probabilities must not pass
silently.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from .client import Client, ServerError

_LEAST = -9000.0
"""Log-probabilities at or below stand for minus infinity, which JSON cannot hold; vLLM writes
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
"""At this many tokens or more, equal log-probabilities are not a coincidence."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredText:
    """Log-probabilities of a text's tokens from position `first` on, at temperature 1 over the
    whole vocabulary.

    `logprobs[i]` is token `first + i`'s; `best[i]` the likeliest token there, or None where the
    server does not report its id; `top[i]` the largest log-probabilities there, descending. Each
    token is conditioned on the text before it.
    """

    first: int
    logprobs: tuple[float, ...]
    best: tuple[int | None, ...]
    top: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """Which model a server serves: its name there, and all that the server reports about its
    weights.
    """

    name: str
    identity: str


class Position(NamedTuple):
    """What a server gives at one position of a text."""

    token: int
    """The text's token there."""
    logprob: float | None
    """Its log-probability."""
    entries: Sequence[tuple[int | None, float]]
    """All tokens listed there with their log-probabilities, the likeliest first; None for a token
    whose id is not reported.
    """


def impossible(position: Position) -> str | None:
    """Why no model gives these numbers, in words that follow the position's name; None where one
    can.
    """
    token, logprob, entries = position
    values = [value for _, value in entries]
    if (
        logprob is None
        or not logprob <= POSITIVE
        or not values
        or not all(value <= POSITIVE for value in values)
    ):
        return f"has log-probability {logprob} and top {values[:3]}"
    if logprob > max(values) + 1e-6:
        return (
            f"has log-probability {logprob}, above the largest log-probability served, "
            f"{max(values)}"
        )
    given = [name for name, _ in entries if name is not None]
    repeated = [name for at, name in enumerate(given) if name in given[:at]]
    listed = next((value for name, value in entries if name == token), None)
    if repeated or (listed is not None and abs(_finite(listed) - _finite(logprob)) > POSITIVE):
        twice = repeated[0] if repeated else token
        both = (
            [value for name, value in entries if name == twice][:2]
            if repeated
            else [logprob, listed]
        )
        return f"has token {twice} twice, with log-probabilities {both[0]} and {both[1]}"
    # Where ids are not reported, only a value below all that are listed is surely another token's.
    extra = [logprob] if listed is None and (given or logprob < min(values)) else []
    if (whole := math.fsum(map(math.exp, [*values, *extra]))) > 1 + SUM_SLACK:
        return (
            f"has probabilities that add up to {whole:.3g} over {len(values) + len(extra)} tokens"
        )
    return None


def constant(values: Sequence[float]) -> str | None:
    """What is wrong where many tokens all have one log-probability, as from a server that scores
    nothing; else None.
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
    """Tokens of a text that are scored a second time, see `ask_again`."""

    def __init__(self, client: Client, model: ServedModel, top: int = 1) -> None:
        self.client, self.model, self.top = client, model, max(top, 1)

    def score(self, ids: Sequence[int], first: int, *, fresh: bool = False) -> ScoredText:
        """Score tokens `first` (at least 1) to the end; `fresh` keeps the server's prefix cache out
        of it where it can.

        Raises ServerError for an answer that is not about these tokens, or that no model can give.
        """
        scored = self._checked(first, self._positions(ids, first, fresh))
        if len(scored.logprobs) > 1 and min(scored.logprobs) > -_CERTAIN:
            self._check_certain(ids, scored)
        elif problem := constant(scored.logprobs):
            self.refuse(problem)
        return scored

    @abc.abstractmethod
    def _positions(self, ids: Sequence[int], first: int, fresh: bool) -> list[Position]:
        """What the server gives at each position. Raises ServerError for an answer that is not
        about these tokens.
        """

    def _checked(self, first: int, positions: Sequence[Position]) -> ScoredText:
        for offset, position in enumerate(positions):
            if problem := impossible(position):
                self.refuse(f"position {first + offset} {problem}")
        top = [[value for _, value in position.entries][: self.top] for position in positions]
        return ScoredText(
            first=first,
            logprobs=tuple(_finite(position.logprob) for position in positions),
            best=tuple(position.entries[0][0] for position in positions),
            top=tuple(tuple(map(_finite, row)) for row in top),
        )

    def _check_certain(self, ids: Sequence[int], scored: ScoredText) -> None:
        """A text of which every token is certain: another token in the place of the last must not
        be likely, too.
        """
        last = ids[-1]
        other = next((token for token in reversed(ids) if token != last), last - 1 if last else 1)
        (instead,) = self._checked(
            len(ids) - 1, self._positions([*ids[:-1], other], len(ids) - 1, False)
        ).logprobs
        if (whole := math.exp(scored.logprobs[-1]) + math.exp(instead)) > 1 + SUM_SLACK:
            self.refuse(
                f"all {len(scored.logprobs)} tokens of a text have probability 1, and the "
                f"last one and token {other} in its place add up to {whole:.3g}"
            )

    def refuse(self, why: str) -> NoReturn:
        raise ServerError(
            f"{self.client.url} ({self.dialect}) does not serve log-probabilities of the tokens "
            f"that were sent: {why}; see "
            "docs/logprobs.md for the servers, versions and flags that do"
        )


def number(value: float | None) -> float:
    """A log-probability; minus infinity where the server sends null."""
    return -math.inf if value is None else value


def _finite(value: float | None) -> float:
    """Minus infinity where the server stands in a number for it."""
    return -math.inf if value is None or value <= _LEAST else min(float(value), 0.0)
