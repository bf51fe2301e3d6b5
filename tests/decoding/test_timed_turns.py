"""How many turns are timed in how many seconds, on a clock of the test's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.clock import Lap
from pytest_specdec.decoding.timed_turns import (
    SEGMENT,
    Budget,
    TurnTimes,
    in_turn,
    seconds_in_words,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Part:
    """A round takes `seconds`, its texts `setup`; both grow by `growth` a segment."""

    def __init__(
        self, clock: Clock, seconds: float, setup: float = 0.0, growth: float = 0.0
    ) -> None:
        self.clock, self.seconds, self.setup, self.growth, self.segments = (
            clock,
            seconds,
            setup,
            growth,
            [],
        )

    def segment(self, rounds: int = SEGMENT) -> list[Lap]:
        self.segments.append(rounds)
        self.clock.now += self.setup
        laps = []
        for _ in range(rounds):
            begun = self.clock.now
            self.clock.now += self.seconds
            laps.append(Lap(begun, begun + self.seconds / 2, self.clock.now))
        self.seconds *= 1 + self.growth
        return laps


def timed(
    parts: dict[str, Part], clock: Clock, *, repeats: int = 40, seconds: float | None = 60.0
) -> tuple[list[str], list]:
    announced, steps = [], []
    budget = Budget(seconds, clock)
    laps = in_turn(
        parts, repeats, budget, progress=lambda *step: steps.append(step), announce=announced.append
    )
    assert all(len(lap.turns) == len(laps["a"].turns) for lap in laps.values())
    return announced, steps


def test_what_fits_is_timed_as_asked_for_and_said_before() -> None:
    clock = Clock()
    parts = {"a": Part(clock, 0.1, 0.4), "b": Part(clock, 0.2)}
    announced, steps = timed(parts, clock)
    assert announced == ["timing 40 rounds of each of 2 parts: about 14 s"]
    assert parts["a"].segments == parts["b"].segments == [1, *[SEGMENT] * 5]
    assert steps[:2] == [("trying each part", 1, 2), ("trying each part", 2, 2)]
    assert [step[1:] for step in steps[2:]] == [(number, 10) for number in range(1, 11)]
    assert clock.now == pytest.approx(14 + 0.7)


def test_fewer_turns_are_timed_where_not_all_fit() -> None:
    clock = Clock()
    parts = {"a": Part(clock, 1.0), "b": Part(clock, 1.0)}
    announced, _ = timed(parts, clock)
    (line,) = announced
    assert line.startswith(
        "timing 24 rounds of each of 2 parts: about 48 s; the 40 asked for would take 80 s, raise "
        "--max-seconds"
    )
    assert clock.now <= 60


@pytest.mark.parametrize(("seconds", "rounds"), [(2.0, 4), (4.0, 2)])
def test_shorter_turns_where_two_whole_ones_do_not_fit(seconds: float, rounds: int) -> None:
    clock = Clock()
    parts = {"a": Part(clock, seconds), "b": Part(clock, seconds)}
    timed(parts, clock)
    assert set(parts["a"].segments[1:]) == {rounds}
    assert len(parts["a"].segments) > 2
    assert clock.now <= 60


def test_what_does_not_fit_at_all_is_refused_with_the_seconds_that_it_needs() -> None:
    clock = Clock()
    parts = {"a": Part(clock, 0.1), "draft at k 16": Part(clock, 20.0)}
    with pytest.raises(
        RequestError,
        match=r"2 turns of 2 rounds take about 80 s, most of all draft at k 16, and 40 s",
    ) as caught:
        timed(parts, clock)
    (needed,) = (
        int(word.partition("=")[2])
        for word in str(caught.value).split()
        if word.startswith("--max-seconds=")
    )
    clock.now = 0.0
    timed({"a": Part(clock, 0.1), "draft at k 16": Part(clock, 20.0)}, clock, seconds=needed)
    assert clock.now <= needed


def test_a_probe_that_eats_the_time_up_is_refused() -> None:
    clock = Clock()
    parts = {str(number): Part(clock, 30.0) for number in range(9)}
    with pytest.raises(
        RequestError,
        match=r"trying 3 of 9 parts \(the last was 2\) took all of the 60 s; ask for fewer",
    ) as caught:
        in_turn(parts, 40, Budget(60.0, clock))
    assert clock.now == 90
    needed = int(str(caught.value).rpartition("--max-seconds=")[2])
    clock.now = 0.0
    in_turn({str(number): Part(clock, 30.0) for number in range(9)}, 40, Budget(needed, clock))
    assert clock.now <= needed


def test_a_machine_that_slows_down_ends_the_measurement_at_its_time() -> None:
    clock = Clock()
    parts = {"a": Part(clock, 0.5, growth=0.8), "b": Part(clock, 0.5)}
    announced, steps = timed(parts, clock)
    assert announced[-1] == "stopped after 4 of 5 turns: the time is up"
    assert steps[-1][1] == steps[-1][2]


def test_without_a_budget_all_is_timed() -> None:
    clock = Clock()
    parts = {"a": Part(clock, 100.0)}
    timed(parts, clock, seconds=None)
    assert parts["a"].segments == [1, *[SEGMENT] * 5]


def test_at_least_two_turns_are_timed_so_that_an_error_is_known() -> None:
    clock = Clock()
    parts = {"a": Part(clock, 0.1)}
    timed(parts, clock, repeats=2)
    assert parts["a"].segments == [1, SEGMENT, SEGMENT]


def test_the_error_of_a_time_is_what_repeated_measurements_show() -> None:
    """Turns with an error of their own, relative to the target's step: the stated error is the spread
    of medians.
    """
    rng, turns, mood = np.random.default_rng(0), 5, 0.1

    def measured() -> tuple[float, float]:
        times, step = (
            TurnTimes([[math.exp(rng.normal(0, mood))] * SEGMENT for _ in range(turns)])
            for _ in range(2)
        )
        return math.log(times.median / step.median) / math.sqrt(2), times.error_beside(step)

    runs = [measured() for _ in range(2000)]
    shown = np.std([ratio for ratio, _ in runs])
    stated = math.sqrt(np.mean([error**2 for _, error in runs]))
    assert stated == pytest.approx(mood / math.sqrt(turns), rel=0.05)
    assert shown == pytest.approx(stated, rel=0.25)  # of the median of five, not of the mean


def test_seconds_in_words() -> None:
    assert [seconds_in_words(seconds) for seconds in (0.42, 9.96, 38.2, 119, 310)] == [
        "0.4 s",
        "10.0 s",
        "38 s",
        "119 s",
        "5.2 min",
    ]
