"""What a controller drafts on given texts: the renewal walk with its state beside the position.

Where a controller has few states the walk is exact. A moving average has a state for each history;
then rounds are played on the acceptance field, with a standard error over plays. At temperature 0
there is one history, so that it is exact for every controller. Numpy only.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..acceptance.counts import Array
from ..acceptance.renewal import AcceptanceField
from ..common.errors import RequestError
from .controllers import Controller, RoundSeen
from .policies import Confidences, RoundMs, oracle
from .table import positive_interval

MOST_STATES = 20_000
"""States (with positions) of a text up to which the walk is exact."""
PLAYS = 200
"""Plays of all texts where there are more."""

Outcome = tuple[int, int, float, tuple[float, ...]]
"""Of a round: drafted, accepted, probability, confidences."""
States = dict[Hashable, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Controlled:
    """Expected rounds of each text under a controller, or counted ones."""

    name: str
    loads: tuple[int, ...]
    rounds: Array
    """(texts, loads, most + 1): rounds by batch size and by drafted tokens."""
    tokens: Array
    """(texts,): tokens emitted after the first new one."""
    exact: bool = True
    errors: tuple[float, float] = (0.0, 0.0)
    """Standard errors over plays of tokens and of drafted tokens per round."""
    at_most: float = 0.0
    """Share of the rounds in which the controller asked for its most tokens."""

    @property
    def acceptance_length(self) -> float:
        """Tokens emitted per round."""
        return float(self.tokens.sum() / self.rounds.sum())

    @property
    def drafted(self) -> float:
        """Tokens drafted per round."""
        by_drafts = self.rounds.sum((0, 1))
        return float(by_drafts @ np.arange(len(by_drafts)) / by_drafts.sum())

    def spent(self, times: Mapping[int, RoundMs]) -> Array:
        """(texts, loads * (most + 1)): milliseconds by the times at each batch size."""
        _, loads, kinds = self.rounds.shape
        used = self.rounds.sum(0) > 0
        cost = np.zeros((loads, kinds))
        for at, load in enumerate(self.loads):
            for drafted in np.flatnonzero(used[at]).tolist():
                cost[at, drafted] = times[load](drafted)
        return (self.rounds * cost).reshape(len(self.rounds), -1)

    def speedup(self, times: Mapping[int, RoundMs]) -> float:
        """Tokens per time over those of the target's steps alone, at the same batch sizes."""
        if len(self.loads) > 1:
            raise RequestError(
                "plain decoding along a load trace has rounds of its own; compare with it"
            )
        plain = times[self.loads[0]](0) * float(self.tokens.sum())
        return plain / float(self.spent(times).sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Regret:
    """How much longer one policy takes than another for the same texts, relative."""

    value: float
    interval: tuple[float, float] | None
    """95 % interval over prompts, paired, with the error of the times; None for one prompt."""

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:+.1%}"
        low, high = self.interval
        return f"{self.value:+.1%} ({low:+.0%} to {high:+.0%})"


def regret(
    policy: Controlled,
    other: Controlled,
    times: Mapping[int, RoundMs],
    timing_error: float = 0.0,
) -> Regret:
    """The time of a policy over that of another on the same texts, less one.

    Both emit the same tokens of each text, so a prompt's influence on the logarithm of the ratio is
    the difference of its shares in both times.
    """
    spent, others = policy.spent(times), other.spent(times)
    ratio = float(spent.sum() / others.sum())
    texts = len(spent)
    if texts < 2:
        return Regret(value=ratio - 1, interval=None)
    influence = spent.sum(1) / spent.sum() - others.sum(1) / others.sum()
    variance = texts / (texts - 1) * float((influence**2).sum())
    if timing_error and spent.shape == others.shape:
        shares = spent.sum(0) / spent.sum() - others.sum(0) / others.sum()
        variance += timing_error**2 * float((shares**2).sum())
    low, high = positive_interval(ratio, math.sqrt(variance))
    return Regret(value=ratio - 1, interval=(low - 1, high - 1))


def controlled(
    field: AcceptanceField,
    controller: Controller,
    *,
    most: int | None = None,
    confidences: Confidences | None = None,
    limits: NDArray[np.int64] | None = None,
    plays: int = PLAYS,
    most_states: int = MOST_STATES,
    seed: int = 0,
) -> Controlled:
    """What a controller drafts on the texts of a field, in their order.

    Parameters
    ----------
    most
        Columns of the result: at least the controller's most tokens, which are the default.
    confidences
        Of the drafts, for a controller that stops by them.
    limits
        (texts,): the length that each text could have reached. Near the end of a text that ended
        by itself a decoder drafts past it; without limits such drafts are not counted. Where
        drafting stops by confidence, they never are: nobody knows their confidences.
    plays, most_states, seed
        Where one text has more states than `most_states` all texts are played so often.

    Raises
    ------
    RequestError
        For a controller that stops by confidence where there are none, or a field that is not of a
        draft model without MTP heads.
    """
    table = RoundTable(field, confidences, limits)
    if controller.stops:
        table.check_confidences()
    width = (controller.most if most is None else most) + 1
    if width <= controller.most:
        raise RequestError(f"{controller.name} drafts up to {controller.most}; raise --k to that")
    walk = _StateWalk(table, controller, width)
    try:
        rounds, at_most = walk.exact(most_states)
        exact, errors = True, (0.0, 0.0)
    except _TooManyStatesError:
        rounds, at_most, errors = walk.played(plays, seed)
        exact = False
    return Controlled(
        name=controller.name,
        loads=controller.loads,
        rounds=rounds,
        tokens=np.maximum(field.lengths - field.starts, 0).astype(np.float64),
        exact=exact,
        errors=errors,
        at_most=at_most,
    )


def in_hindsight(field: AcceptanceField, round_ms: RoundMs, most: int) -> Controlled:
    """The oracle: it knows how many drafts a round would accept, and the text, and drafts as many
    of them as pay best by the times of rounds. No policy at this batch size takes less time.
    """
    parts = [
        oracle(field.select(slice(row, row + 1)), most, round_ms)
        for row in range(len(field.prompts))
    ]
    return Controlled(
        name="oracle",
        loads=(1,),
        rounds=np.stack([part.rounds for part in parts])[:, None],
        tokens=np.maximum(field.lengths - field.starts, 0).astype(np.float64),
    )


class _TooManyStatesError(Exception):
    """The walk would hold too many."""


class RoundTable:
    """What a round from any start of a field's texts does, for any number of drafts."""

    def __init__(
        self,
        field: AcceptanceField,
        confidences: Confidences | None,
        limits: NDArray[np.int64] | None,
    ) -> None:
        self.field, self._confidences = field, confidences
        self._limits = field.lengths if limits is None else np.maximum(limits, field.lengths)
        self._cached: dict[tuple[int, int, int, float], list[Outcome]] = {}

    def check_confidences(self) -> None:
        """Raises RequestError where a controller cannot stop by them."""
        field = self.field
        if (
            self._confidences is None
            or field.accept.shape[1] != 1
            or field.joint
            or field.available is not None
        ):
            raise RequestError(
                "confidence thresholds need a draft model without MTP heads that drafts token by "
                "token; choose another controller"
            )

    @functools.cache  # noqa: B019  # a table lives for one walk
    def _survival(self, k: int) -> Array:
        return self.field.survival(self.field.rounds_at(k, "whole")[1], max(k, 1))

    def outcomes(self, row: int, start: int, k: int, threshold: float) -> list[Outcome]:
        """What a round from a start does, drafting at most k tokens."""
        key = (row, start, k, threshold)
        if key not in self._cached:
            found = (
                self._stopped(row, start, k, threshold)
                if threshold > 0
                else self._whole(row, start, k)
            )
            if len(self._cached) > 1_000_000:
                self._cached.clear()
            self._cached[key] = list(found)
        return self._cached[key]

    def _whole(self, row: int, start: int, k: int) -> Iterator[Outcome]:
        drafted = min(k, int(self._limits[row]) - start - 1)
        if self.field.available is not None:
            drafted = min(drafted, int(self.field.available[row, start]))
        before = 1.0
        for accepted, alive in enumerate((*self._survival(k)[row, start].tolist(), 0.0)):
            if before > alive:
                yield drafted, accepted, before - alive, ()
            before = alive

    def _stopped(self, row: int, start: int, k: int, threshold: float) -> Iterator[Outcome]:
        assert self._confidences is not None
        room = min(k, int(self.field.lengths[row]) - start - 1)
        alive = 1.0
        sure: tuple[float, ...] = ()
        if room == 0:
            yield 0, 0, 1.0, ()
        for step in range(room):
            at = start + step
            chance = float(self.field.accept[row, 0, at])
            if chance < 1:
                rest = self._confidences.rejected[row, at]
                behind = 0
                while behind < room - step - 1 and rest[behind] >= threshold:
                    behind += 1
                yield step + behind + 1, step, alive * (1 - chance), (*sure, float(rest[0]))
            alive *= chance
            if alive == 0:
                return
            sure = (*sure, float(self._confidences.accepted[row, at]))
            if step + 1 == room or sure[-1] < threshold:
                yield step + 1, step + 1, alive, sure
                return


class _StateWalk:
    """A controller on the texts of a table."""

    def __init__(self, table: RoundTable, controller: Controller, width: int) -> None:
        self._table, self._controller, self._width = table, controller, width
        self._loads = {load: at for at, load in enumerate(controller.loads)}

    def _shape(self) -> tuple[int, int, int]:
        return (len(self._table.field.prompts), len(self._loads), self._width)

    def exact(self, most_states: int) -> tuple[Array, float]:
        """Rounds (texts, loads, width), and the share that asked for the most."""
        rounds = np.zeros(self._shape())
        states: States = {self._controller.first(): 1.0}
        at_most = 0.0
        for row in range(len(rounds)):
            states, asked = self._text(row, states, rounds[row], most_states)
            at_most += asked
        return rounds, at_most / max(float(rounds.sum()), 1e-300)

    def _text(
        self, row: int, states: States, rounds: Array, most_states: int
    ) -> tuple[States, float]:
        """The states in which the next text begins."""
        field, controller = self._table.field, self._controller
        start, end = int(field.starts[row]), int(field.lengths[row])
        at: dict[int, States] = {start: dict(states)}
        ended: States = {}
        seen_states, at_most = 0, 0.0
        for position in range(start, end):
            here = at.pop(position, {})
            seen_states += len(here)
            if seen_states > most_states:
                raise _TooManyStatesError
            for state, weight in here.items():
                k, load = controller.drafts(state), self._loads[controller.load(state)]
                at_most += weight * (k == controller.most)
                for outcome in self._table.outcomes(row, position, k, controller.threshold(state)):
                    drafted, accepted, chance, sure = outcome
                    flow = weight * chance
                    rounds[load, drafted] += flow
                    then = controller.after(
                        state, RoundSeen(drafted=drafted, accepted=accepted, confidences=sure)
                    )
                    following = position + accepted + 1
                    if following >= end:
                        then, into = controller.ended(then), ended
                    else:
                        into = at.setdefault(following, {})
                    into[then] = into.get(then, 0.0) + flow
        return (ended or {controller.ended(state): share for state, share in states.items()}), (
            at_most
        )

    def played(self, plays: int, seed: int) -> tuple[Array, float, tuple[float, float]]:
        """Means over plays of all texts, and their standard errors."""
        rng = np.random.default_rng(seed)
        total = np.zeros(self._shape())
        ratios, at_most = np.zeros((plays, 2)), 0.0
        field = self._table.field
        tokens = float(np.maximum(field.lengths - field.starts, 0).sum())
        for play in range(plays):
            rounds = np.zeros(self._shape())
            state = self._controller.first()
            for row in range(len(rounds)):
                state, asked = self._play(row, state, rounds[row], rng)
                at_most += asked
            count = rounds.sum()
            ratios[play] = tokens / count, rounds.sum((0, 1)) @ np.arange(self._width) / count
            total += rounds
        error = ratios.std(0, ddof=1) / math.sqrt(plays)
        share = at_most / max(float(total.sum()), 1e-300)
        return total / plays, share, (float(error[0]), float(error[1]))

    def _play(
        self, row: int, state: Hashable, rounds: Array, rng: np.random.Generator
    ) -> tuple[Hashable, float]:
        field, controller = self._table.field, self._controller
        position, end, at_most = int(field.starts[row]), int(field.lengths[row]), 0
        while position < end:
            k, load = controller.drafts(state), self._loads[controller.load(state)]
            at_most += k == controller.most
            outcomes = self._table.outcomes(row, position, k, controller.threshold(state))
            drafted, accepted, _, sure = outcomes[_drawn(outcomes, rng.random())]
            rounds[load, drafted] += 1
            state = controller.after(
                state, RoundSeen(drafted=drafted, accepted=accepted, confidences=sure)
            )
            position += accepted + 1
        return controller.ended(state), at_most


def _drawn(outcomes: Sequence[Outcome], coin: float) -> int:
    """The outcome that a coin in [0, 1) picks."""
    for number, outcome in enumerate(outcomes[:-1]):
        coin -= outcome[2]
        if coin < 0:
            return number
    return len(outcomes) - 1
