"""Controllers: how many tokens to draft next, from what earlier rounds did.

Each is a state and what changes it, so that one definition serves the exact walk over a text
(`controlled`) and the decoder that runs it online (`decode(controller=...)`). States are hashable
and never changed in place. Plain Python.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Hashable
from typing import Any

from ..common.errors import RequestError

TRANSFORMERS_FIRST = 20
"""`num_assistant_tokens` of transformers where nothing is set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundSeen:
    """What a controller sees of a round."""

    drafted: int
    accepted: int
    confidences: tuple[float, ...] = ()
    """How likely the drafter found its accepted drafts and the first rejected one; empty unless
    the controller stops by a confidence.
    """


class Controller(abc.ABC):
    """Decides in every round how many tokens to draft."""

    most: int
    """Most tokens of a round."""
    carries = False
    """Whether a text begins in the state in which the text before it ended."""
    stops = False
    """Whether it stops drafting by the drafts' confidence: only for draft models at depth 0."""
    loads: tuple[int, ...] = (1,)
    """Batch sizes that its rounds can have."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """In tables."""

    @abc.abstractmethod
    def first(self) -> Hashable:
        """The state before the first round."""

    @abc.abstractmethod
    def drafts(self, state: Any) -> int:
        """Tokens to draft in the next round, at most."""

    @abc.abstractmethod
    def after(self, state: Any, seen: RoundSeen) -> Hashable:
        """The state after a round."""

    def threshold(self, state: Any) -> float:
        """Drafting stops after a draft that the drafter found less likely; 0 never stops."""
        return 0.0

    def load(self, state: Any) -> int:
        """The batch size of the next round, one of `loads`."""
        return self.loads[0]

    def ended(self, state: Any) -> Hashable:
        """The state in which the next text begins."""
        return state if self.carries else self.first()


@dataclasses.dataclass(frozen=True)
class FixedDrafts(Controller):
    """Always the same number of tokens; with a threshold until the first unsure draft."""

    most: int
    confidence: float = 0.0

    def __post_init__(self) -> None:
        check(self.most >= 0, f"k is {self.most}; draft 0 tokens or more")
        check_threshold(self.confidence)

    @property
    def stops(self) -> bool:  # type: ignore[override]
        return self.confidence > 0

    @property
    def name(self) -> str:
        return f"stop below {self.confidence:g}" if self.confidence else f"k = {self.most}"

    def first(self) -> Hashable:
        return None

    def drafts(self, state: Any) -> int:
        return self.most

    def after(self, state: Any, seen: RoundSeen) -> Hashable:
        return None

    def threshold(self, state: Any) -> float:
        return self.confidence


@dataclasses.dataclass(frozen=True)
class HeuristicSchedule(Controller):
    """transformers' `num_assistant_tokens_schedule`: two tokens more after a round that accepted
    all of its drafts, one fewer after any other, never fewer than one.

    `carries` is `"heuristic"`, which keeps the number from text to text, otherwise it is
    `"heuristic_transient"`. transformers has no upper limit; `most` is one.
    """

    begin: int
    most: int
    carries: bool = False
    confidence: float = 0.0

    def __post_init__(self) -> None:
        check(
            1 <= self.begin <= self.most,
            "the schedule begins between 1 and k; write heuristic=1 or more, or raise --k",
        )
        check_threshold(self.confidence)

    @property
    def stops(self) -> bool:  # type: ignore[override]
        return self.confidence > 0

    @property
    def name(self) -> str:
        stop = f", stop below {self.confidence:g}" if self.confidence else ""
        return f"heuristic{'' if self.carries else '_transient'} from {self.begin}{stop}"

    def first(self) -> int:
        return self.begin

    def drafts(self, state: int) -> int:
        return state

    def after(self, state: int, seen: RoundSeen) -> int:
        if seen.accepted == seen.drafted:
            return min(state + 2, self.most)
        return max(1, state - 1)

    def threshold(self, state: int) -> float:
        return self.confidence


@dataclasses.dataclass(frozen=True)
class BestByAverage(Controller):
    """The number of tokens that pays best by the cost model if every draft were accepted with the
    share of the last `window` rounds (SmartSpec's goodput, arXiv 2406.14066, for one request).

    A pause would never end by itself: after `probe` rounds without drafts one token is drafted.
    """

    round_ms: tuple[float, ...]
    """Milliseconds of a round that drafts 0, 1, ... tokens."""
    window: int = 8
    prior: float = 0.7
    """Share that counts as one accepted or rejected draft before the first round."""
    probe: int = 8

    def __post_init__(self) -> None:
        check(len(self.round_ms) >= 2, "costs of a round with one draft are needed")
        check(self.window >= 1 and self.probe >= 1, "window and probe are at least 1")
        check(0 < self.prior < 1, "the prior share lies between 0 and 1")

    @property
    def most(self) -> int:  # type: ignore[override]
        return len(self.round_ms) - 1

    @property
    def name(self) -> str:
        return f"best by last {self.window} rounds"

    def first(self) -> tuple[tuple[tuple[int, int], ...], int]:
        return ((), 0)

    def drafts(self, state: Any) -> int:
        history, paused = state
        if paused >= self.probe:
            return 1
        accepted = self.prior + sum(taken for taken, _ in history)
        share = accepted / (1 + sum(judged for _, judged in history))
        speeds, length = [], 0.0
        for k, spent in enumerate(self.round_ms):
            length += share**k
            speeds.append(length / spent)
        return max(range(len(speeds)), key=lambda k: speeds[k])

    def after(self, state: Any, seen: RoundSeen) -> Hashable:
        history, paused = state
        if not seen.drafted:
            return (history, min(paused + 1, self.probe))
        judged = seen.accepted + (seen.accepted < seen.drafted)
        return ((*history, (seen.accepted, judged))[-self.window :], 0)


@dataclasses.dataclass(frozen=True)
class AcceptanceGate(Controller):
    """TensorRT-LLM's `acceptance_window` and `acceptance_length_threshold`: drafting ends for good
    once the last requests accepted fewer tokens per round than the threshold, on average.
    """

    most: int
    window: int
    least: float
    carries = True

    def __post_init__(self) -> None:
        check(self.most >= 1, f"k is {self.most}; draft at least one token")
        check(self.window >= 1, "the window is at least one request")
        check(self.least >= 0, "the threshold is 0 or more")

    @property
    def name(self) -> str:
        return f"k = {self.most}, gate {self.window}:{self.least:g}"

    def first(self) -> tuple[bool, tuple[float, ...], int, int]:
        return (False, (), 0, 0)

    def drafts(self, state: Any) -> int:
        return 0 if state[0] else self.most

    def after(self, state: Any, seen: RoundSeen) -> Hashable:
        closed, history, rounds, accepted = state
        return state if closed else (closed, history, rounds + 1, accepted + seen.accepted)

    def ended(self, state: Any) -> Hashable:
        closed, history, rounds, accepted = state
        if closed:
            return (True, (), 0, 0)
        history = (*history, accepted / rounds if rounds else 0.0)[-self.window :]
        if len(history) == self.window and sum(history) / self.window < self.least:
            return (True, (), 0, 0)
        return (False, history, 0, 0)


@dataclasses.dataclass(frozen=True)
class LoadSchedule(Controller):
    """A number of tokens for each batch size, along a trace of batch sizes, one a round.

    vLLM's `num_speculative_tokens_per_batch_size`, TensorRT-LLM's `draft_len_schedule`.
    """

    steps: tuple[tuple[int, int], ...]
    """(largest batch size, tokens) in order; above the last nothing is drafted."""
    trace: tuple[int, ...]
    """Batch size of each round, from text to text; it begins again at its end."""
    carries = True

    def __post_init__(self) -> None:
        ends = [end for end, _ in self.steps]
        check(
            ends == sorted(set(ends)) and all(end >= 1 for end in ends),
            "a schedule's batch sizes rise from 1 on; sort them",
        )
        check(all(k >= 0 for _, k in self.steps), "a schedule's tokens are 0 or more")
        check(
            bool(self.trace) and min(self.trace, default=0) >= 1,
            "a trace of batch sizes needs numbers from 1 on",
        )

    @property
    def most(self) -> int:  # type: ignore[override]
        return max(self.at(load) for load in self.loads)

    @property
    def loads(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(sorted(set(self.trace)))

    @property
    def name(self) -> str:
        return "schedule " + ", ".join(f"up to {end}: {k}" for end, k in self.steps)

    def at(self, load: int) -> int:
        """Tokens at a batch size."""
        return next((k for end, k in self.steps if load <= end), 0)

    def first(self) -> int:
        return 0

    def drafts(self, state: int) -> int:
        return self.at(self.trace[state])

    def load(self, state: int) -> int:
        return self.trace[state]

    def after(self, state: int, seen: RoundSeen) -> int:
        return (state + 1) % len(self.trace)


def check(fine: bool, message: str) -> None:
    if not fine:
        raise RequestError(message)


def check_threshold(value: float) -> None:
    check(0 <= value <= 1, f"a confidence threshold is {value:g}; it lies between 0 and 1")
