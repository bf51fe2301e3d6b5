"""Controllers that learn from every round of a text: transformers' tuned threshold and SGLang's
moving average. Plain Python.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any

from .controllers import Controller, RoundSeen, check


@dataclasses.dataclass(frozen=True)
class TunedThreshold(Controller):
    """transformers' `assistant_confidence_threshold` as scikit-learn moves it: after each round the
    threshold of least cost (false positives + 3 * false negatives) on all drafts judged so far.

    A draft counts as judged if it was accepted or is the first rejected one of its round.
    """

    most: int
    begin: float = 0.4
    stops = True

    def __post_init__(self) -> None:
        check(self.most >= 1, f"k is {self.most}; draft at least one token")
        check(0 < self.begin <= 1, "transformers tunes thresholds above 0 only; pass one")

    @property
    def name(self) -> str:
        return f"tuned threshold from {self.begin:g}"

    def first(self) -> tuple[float, tuple[tuple[float, bool], ...]]:
        return (self.begin, ())

    def drafts(self, state: Any) -> int:
        return self.most

    def threshold(self, state: Any) -> float:
        value: float = state[0]
        return value

    def after(self, state: Any, seen: RoundSeen) -> Hashable:
        value, judged = state
        matches = [True] * seen.accepted + [False] * (seen.accepted < seen.drafted)
        judged = (*judged, *zip(seen.confidences, matches, strict=True))
        kinds = {match for _, match in judged}
        if len(judged) > 5 and len(kinds) == 2:
            value = least_cost_threshold(judged)
        return (value, judged)


def least_cost_threshold(judged: Sequence[tuple[float, bool]]) -> float:
    """The confidence from which drafts are kept at the least false positive rate + 3 * false
    negative rate; the largest on a tie.

    >>> least_cost_threshold([(0.9, True), (0.8, True), (0.3, False), (0.2, False)])
    0.8
    """
    right = sum(match for _, match in judged)
    wrong = len(judged) - right
    best, cost, kept = math.inf, 3.0, [0, 0]
    ordered = sorted(judged, key=lambda pair: -pair[0])
    for number, (value, match) in enumerate(ordered):
        kept[match] += 1
        if number + 1 < len(ordered) and ordered[number + 1][0] == value:
            continue
        at = kept[False] / wrong + 3 * (1 - kept[True] / right)
        if at < cost:
            best, cost = value, at
    return best


@dataclasses.dataclass(frozen=True)
class AdaptiveSteps(Controller):
    """SGLang's `--speculative-adaptive` (strategy `ema`) with a batch of one: an exponential moving
    average of the accepted tokens chooses among candidate numbers every few rounds.

    The names are those of its configuration file.
    """

    candidate_steps: tuple[int, ...] = (1, 3, 5, 7)
    initial_steps: int = 5
    ema_alpha: float = 0.2
    update_interval: int = 5
    warmup_batches: int = 10
    up_hysteresis: float = 0.0
    down_hysteresis: float = -0.25
    ceiling_coeff: float = 0
    carries: bool = True

    def __post_init__(self) -> None:
        steps = tuple(sorted(set(self.candidate_steps)))
        check(bool(steps) and steps[0] >= 0, "candidate steps are numbers from 0 on; pass some")
        check(steps[-1] >= 1, "candidate steps of 0 alone never draft; add another")
        check(0 < self.ema_alpha <= 1, "the average's weight lies in (0, 1]; change ema_alpha")
        check(self.update_interval >= 1, "update_interval is at least 1")
        object.__setattr__(self, "candidate_steps", steps)

    @property
    def most(self) -> int:  # type: ignore[override]
        return self.candidate_steps[-1]

    @property
    def name(self) -> str:
        return f"moving average {' '.join(map(str, self.candidate_steps))}"

    def first(self) -> tuple[int, float, int]:
        steps = self.initial_steps
        if steps not in self.candidate_steps:
            steps = self.candidate_steps[len(self.candidate_steps) // 2]
        return (steps, float(steps - 1), 0)

    def drafts(self, state: Any) -> int:
        steps: int = state[0]
        return steps

    def after(self, state: Any, seen: RoundSeen) -> tuple[int, float, int]:
        steps, average, rounds = state
        if steps > 0:
            average = (1 - self.ema_alpha) * average + self.ema_alpha * seen.accepted
        rounds += 1
        past = rounds - self.warmup_batches
        if past > 0 and past % self.update_interval == 0:
            steps, average = self._chosen(steps, average)
        # Only how far the round is from the next decision matters after the warm-up.
        if past >= 0:
            rounds = self.warmup_batches + past % self.update_interval
        return (steps, average, rounds)

    def _chosen(self, steps: int, average: float) -> tuple[int, float]:
        candidates, last = self.candidate_steps, len(self.candidate_steps) - 1
        at = old = candidates.index(steps)
        if steps == 0:
            target = candidates[min(at + 1, last)]
            return target, float(target - 1) if target > 0 and average < 0 else average
        while at > 0:
            lower = candidates[at - 1]
            if average > (0.5 if lower == 0 else lower - 0.5) + self.down_hysteresis:
                break
            at -= 1
        if at == old:
            while at < last and average > candidates[at] - 0.5 + self.up_hysteresis:
                at += 1
        if self.ceiling_coeff > 0:
            ceiling = max(1, math.ceil(average * self.ceiling_coeff))
            if ceiling < candidates[at] <= steps:
                while at > 0 and candidates[at] > ceiling:
                    at -= 1
        return candidates[at], average
