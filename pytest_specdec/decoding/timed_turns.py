"""Parts of a round timed in turn, within a budget of seconds that is estimated from a probe of
each.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from ..common.errors import RequestError
from .clock import Lap

SEGMENT = 8
"""Rounds timed before the texts start again, so that they stay about as long as requested."""
LEAST_TURNS = 2
"""Fewest turns that allow an estimate of a time's error."""
_SHORTER = (SEGMENT, 4, 2)
"""Rounds in a turn, fewer where two turns of more do not fit."""
_SPARE = 1.2
"""What a suggested budget holds beyond the estimate."""

Part = TypeVar("Part")
Progress = Callable[[str, int, int], None]
"""(what, done, total)."""


class Segments(Protocol):
    """What runs so many consecutive rounds of new texts; its times are known when it returns."""

    def segment(self, rounds: int = SEGMENT) -> list[Lap]: ...


@dataclasses.dataclass(frozen=True)
class TurnTimes:
    """Milliseconds of one part, turn by turn."""

    turns: list[list[float]]

    @property
    def count(self) -> int:
        return sum(map(len, self.turns))

    @property
    def median(self) -> float:
        return round(statistics.median(itertools.chain(*self.turns)), 4)

    @property
    def spread(self) -> float:
        """Inter-quartile range relative to the median."""
        low, middle, high = statistics.quantiles(itertools.chain(*self.turns), n=4)
        return (high - low) / middle

    def error_beside(self, target: TurnTimes) -> float:
        """Relative standard error of a time, from how its ratio to the target's step varies from
        turn to turn.

        Timings within one turn are correlated, so turns are the sampling unit. The ratio carries
        the error of both times, hence the factor 2.
        """
        pairs = zip(self.turns, target.turns, strict=True)
        ratios = [
            math.log(statistics.median(part) / statistics.median(step)) for part, step in pairs
        ]
        return statistics.stdev(ratios) / math.sqrt(2 * len(ratios))


@dataclasses.dataclass(frozen=True)
class Laps:
    """Rounds of one part, turn by turn."""

    turns: list[list[Lap]] = dataclasses.field(default_factory=list)

    @property
    def draft(self) -> TurnTimes:
        return TurnTimes([[lap.draft_ms for lap in turn] for turn in self.turns])

    @property
    def verify(self) -> TurnTimes:
        return TurnTimes([[lap.verify_ms for lap in turn] for turn in self.turns])


class Budget:
    """Seconds from now on that a measurement may take; None for as many as it needs."""

    def __init__(self, seconds: float | None, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds, self._now, self._begun = seconds, now, now()

    @property
    def spent(self) -> float:
        return self._now() - self._begun

    @property
    def over(self) -> bool:
        return self.seconds is not None and self.spent > self.seconds

    def check(self, what: str, left: float) -> None:
        """Raises RequestError where no time is left; `left` are the seconds that the rest would
        take at least.
        """
        if self.over:
            assert self.seconds is not None
            needed = math.ceil(_SPARE * (self.spent + left))
            raise RequestError(
                f"{what} took all of the {seconds_in_words(self.seconds)}; ask for fewer k and "
                "depths, a smaller --context, or "
                f"at least --max-seconds={needed}"
            )

    def fit(self, seconds: float) -> float:
        """How many times so many seconds fit into what is left."""
        return math.inf if self.seconds is None else (self.seconds - self.spent) / seconds


@dataclasses.dataclass(frozen=True)
class TimeEstimate:
    """What one part takes, in seconds."""

    setup: float
    """Before the first round of new texts."""
    round: float

    def seconds(self, rounds: int) -> float:
        return self.setup + rounds * self.round


@dataclasses.dataclass(frozen=True)
class TimingPlan:
    """So many turns of so many rounds."""

    turns: int
    rounds: int
    seconds: float
    """Of all turns of all parts."""


def planned(estimates: Mapping[str, TimeEstimate], repeats: int, budget: Budget) -> TimingPlan:
    """At least `repeats` rounds of each part, or as many as fit. Raises RequestError where two
    turns of two do not.
    """
    wanted = max(LEAST_TURNS, -(-repeats // SEGMENT))
    for rounds in _SHORTER:
        seconds = sum(estimate.seconds(rounds) for estimate in estimates.values())
        turns = min(wanted, math.floor(min(budget.fit(seconds), wanted)))
        if turns >= LEAST_TURNS:
            return TimingPlan(turns, rounds, turns * seconds)
    slowest = max(estimates, key=lambda name: estimates[name].seconds(rounds))
    needed = math.ceil(_SPARE * (budget.spent + LEAST_TURNS * seconds))
    takes = seconds_in_words(LEAST_TURNS * seconds)
    left = seconds_in_words(max(0.0, budget.fit(1.0)))
    raise RequestError(
        f"{LEAST_TURNS} turns of {rounds} rounds take about {takes}, most of all {slowest}, and "
        f"{left} are left of "
        f"{seconds_in_words(budget.seconds or 0.0)}; ask for fewer k and depths, or for "
        f"--max-seconds={needed}"
    )


def in_turn(
    tracks: Mapping[Part, Segments],
    repeats: int,
    budget: Budget,
    *,
    name: Callable[[Part], str] = str,
    progress: Progress = lambda what, done, total: None,
    announce: Callable[[str], None] = lambda line: None,
) -> dict[Part, Laps]:
    """Each part's rounds, a few a turn: at least `repeats` in all, or as many as fit into the
    budget.

    A first round of each part warms it up and shows how long a turn takes; `announce` is called
    with that. Raises RequestError where two turns do not fit.
    """
    estimates = dict(_probed(tracks, budget, name, progress))
    plan = planned(estimates, repeats, budget)
    announce(_announcement(plan, estimates, repeats))
    laps: dict[Part, Laps] = {part: Laps() for part in tracks}
    for turn in range(plan.turns):
        for number, (part, rounds) in enumerate(tracks.items(), 1):
            laps[part].turns.append(rounds.segment(plan.rounds))
            progress("timing rounds", turn * len(tracks) + number, plan.turns * len(tracks))
        if budget.over and LEAST_TURNS <= turn + 1 < plan.turns:
            progress("timing rounds", plan.turns * len(tracks), plan.turns * len(tracks))
            announce(f"stopped after {turn + 1} of {plan.turns} turns: the time is up")
            break
    return laps


def _probed(
    tracks: Mapping[Part, Segments], budget: Budget, name: Callable[[Part], str], progress: Progress
) -> Iterator[tuple[str, TimeEstimate]]:
    """What each part takes, by name, from one round of it."""
    first = budget.spent
    shortest_turns = 0.0
    for number, (part, rounds) in enumerate(tracks.items(), 1):
        begun = budget.spent
        (lap,) = rounds.segment(1)
        seconds = (lap.draft_ms + lap.verify_ms) / 1e3
        estimate = TimeEstimate(max(0.0, budget.spent - begun - seconds), seconds)
        yield name(part), estimate
        progress("trying each part", number, len(tracks))
        tried = budget.spent - first
        shortest_turns += LEAST_TURNS * estimate.seconds(_SHORTER[-1])
        whole = (
            (tried + shortest_turns) / number * len(tracks)
        )  # as if the other parts took as long as those tried
        budget.check(
            f"trying {number} of {len(tracks)} parts (the last was {name(part)})", whole - tried
        )


def _announcement(plan: TimingPlan, estimates: Mapping[str, TimeEstimate], repeats: int) -> str:
    rounds = plan.turns * plan.rounds
    announcement = (
        f"timing {rounds} rounds of each of {len(estimates)} parts: about "
        f"{seconds_in_words(plan.seconds)}"
    )
    if rounds >= repeats:
        return announcement
    segments = -(-repeats // SEGMENT)
    whole = sum(segments * estimate.seconds(SEGMENT) for estimate in estimates.values())
    return (
        f"{announcement}; the {repeats} asked for would take {seconds_in_words(whole)}, raise "
        "--max-seconds for them"
    )


def seconds_in_words(seconds: float) -> str:
    """`0.4 s`, `38 s` or `5.2 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
