"""Controllers by themselves: their rules beside those of the engines, read line by line."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.common.errors import RequestError
from pytest_specdec.speedup.controllers import (
    AcceptanceGate,
    BestByAverage,
    Controller,
    FixedDrafts,
    HeuristicSchedule,
    LoadSchedule,
    RoundSeen,
)
from pytest_specdec.speedup.learning_controllers import (
    AdaptiveSteps,
    TunedThreshold,
    least_cost_threshold,
)

shares = st.lists(st.floats(0, 1), min_size=1, max_size=60)


def run(controller: Controller, shares: list[float]) -> list[tuple[int, int]]:
    """Rounds (drafted, accepted) in which a share of the drafts is accepted."""
    state, played = controller.first(), []
    for share in shares:
        drafted = controller.drafts(state)
        accepted = min(drafted, int(share * (drafted + 1)))
        played.append((drafted, accepted))
        state = controller.after(state, RoundSeen(drafted=drafted, accepted=accepted))
        hash(state)
    return played


class SlotOfSGLang:
    """What `AdaptiveStepSlot` of sglang/srt/speculative/adaptive_spec_params.py does, with state
    that changes in place, as it stands there.
    """

    def __init__(self, controller: AdaptiveSteps) -> None:
        self.c = controller
        self.steps = controller.first()[0]
        self.ema, self.count = float(self.steps - 1), 0

    def update(self, accepted: int) -> None:
        c = self.c
        if self.steps > 0:
            self.ema = (1 - c.ema_alpha) * self.ema + c.ema_alpha * accepted
        self.count += 1
        if self.count <= c.warmup_batches or (self.count - c.warmup_batches) % c.update_interval:
            return
        old, steps = self.steps, list(c.candidate_steps)
        index = before = steps.index(old)
        if old == 0:
            index = min(index + 1, len(steps) - 1)
            if steps[index] > 0 and self.ema < 0:
                self.ema = float(steps[index] - 1)
            self.steps = steps[index]
            return
        while index > 0:
            drop = (0.5 if steps[index - 1] == 0 else steps[index - 1] - 0.5) + c.down_hysteresis
            if not self.ema <= drop:
                break
            index -= 1
        if not index < before:
            while index < len(steps) - 1 and self.ema > steps[index] - 0.5 + c.up_hysteresis:
                index += 1
        target = steps[index]
        if c.ceiling_coeff > 0:
            ceiling = max(1, math.ceil(self.ema * c.ceiling_coeff))
            if target > ceiling and target <= old:
                while index > 0 and steps[index] > ceiling:
                    index -= 1
                target = steps[index]
        self.steps = target


@given(
    st.sets(st.integers(0, 8), min_size=1, max_size=5).filter(lambda steps: steps != {0}),
    st.integers(0, 8),
    st.integers(1, 4),
    st.integers(0, 6),
    st.sampled_from([0.0, 0.9, 1.5]),
    shares,
)
def test_a_moving_average_moves_as_in_sglang(
    steps: set[int], first: int, interval: int, warmup: int, ceiling: float, shares: list[float]
) -> None:
    controller = AdaptiveSteps(
        candidate_steps=tuple(steps),
        initial_steps=first,
        update_interval=interval,
        warmup_batches=warmup,
        ceiling_coeff=ceiling,
    )
    slot = SlotOfSGLang(controller)
    for drafted, accepted in run(controller, shares):
        assert drafted == slot.steps
        slot.update(accepted)


def test_a_moving_average_climbs_where_all_is_accepted_and_falls_where_nothing_is() -> None:
    controller = AdaptiveSteps()
    assert run(controller, [1.0] * 40)[-1][0] == 7
    assert run(controller, [0.0] * 40)[-1][0] == 1


def test_the_heuristic_schedule_is_that_of_transformers() -> None:
    played = run(HeuristicSchedule(3, 6), [1.0, 1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert [drafted for drafted, _ in played] == [3, 5, 6, 5, 4, 3, 2, 1, 1]


@given(st.lists(st.tuples(st.integers(1, 19), st.booleans()), min_size=2, max_size=30))
def test_the_tuned_threshold_has_the_least_cost_of_all(pairs: list[tuple[int, bool]]) -> None:
    judged = [(value / 20, match) for value, match in pairs]
    matches = np.array([match for _, match in judged])
    if matches.all() or not matches.any():
        return
    values = np.array([value for value, _ in judged])

    def cost(threshold: float) -> float:
        kept = values >= threshold
        return float(kept[~matches].mean() + 3 * (1 - kept[matches].mean()))

    best = least_cost_threshold(judged)
    assert cost(best) == pytest.approx(min(map(cost, [*values, math.inf])))
    assert all(cost(value) > cost(best) - 1e-12 for value in values if value > best)


def test_thresholds_move_only_after_five_drafts_of_both_kinds() -> None:
    controller = TunedThreshold(4, 0.4)
    state = controller.first()
    right = RoundSeen(drafted=3, accepted=3, confidences=(0.9, 0.8, 0.7))
    for _ in range(2):
        state = controller.after(state, right)
    assert controller.threshold(state) == 0.4
    state = controller.after(state, RoundSeen(drafted=2, accepted=0, confidences=(0.1,)))
    assert controller.threshold(state) == 0.7


def test_the_best_by_average_is_the_argmax_of_the_cost_model() -> None:
    spent = (10.0, 12.0, 13.0, 14.0)
    controller = BestByAverage(spent, window=3, prior=0.5)
    state = controller.first()
    for drafted, accepted in [(3, 3), (3, 1), (3, 0), (3, 2)]:
        state = controller.after(state, RoundSeen(drafted=drafted, accepted=accepted))
    share = (0.5 + 1 + 0 + 2) / (1 + 2 + 1 + 3)
    lengths = [sum(share**step for step in range(k + 1)) for k in range(4)]
    assert controller.drafts(state) == int(np.argmax(np.array(lengths) / spent))


def test_a_pause_ends_with_a_probe() -> None:
    controller = BestByAverage((10.0, 15.0, 20.0), window=4, probe=3)
    drafted = [drafts for drafts, _ in run(controller, [0.0] * 20)]
    assert 0 in drafted
    assert drafted[-8:].count(1) == 2


def test_the_gate_closes_when_the_window_is_full_and_below_the_threshold() -> None:
    gate = AcceptanceGate(4, window=2, least=1.0)
    state, drafted = gate.first(), []
    for accepted in (0, 3, 1, 0, 4, 4):
        drafted.append(gate.drafts(state))
        seen = RoundSeen(drafted=drafted[-1], accepted=min(accepted, drafted[-1]))
        state = gate.ended(gate.after(state, seen))
    assert drafted == [4, 4, 4, 4, 0, 0]  # means 1.5, 2, 0.5: then for good


def test_a_schedule_follows_the_load() -> None:
    schedule = LoadSchedule(((1, 5), (8, 2)), (1, 8, 9, 4))
    assert [drafted for drafted, _ in run(schedule, [0.0] * 6)] == [5, 2, 0, 2, 5, 2]
    assert schedule.most == 5
    assert schedule.loads == (1, 4, 8, 9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedDrafts(-1), "draft 0 tokens or more"),
        (lambda: FixedDrafts(3, 1.5), "lies between 0 and 1"),
        (lambda: HeuristicSchedule(5, 4), "between 1 and k"),
        (lambda: HeuristicSchedule(0, 4), "between 1 and k"),
        (lambda: TunedThreshold(4, 0.0), "above 0 only"),
        (lambda: AdaptiveSteps(candidate_steps=()), "pass some"),
        (lambda: AdaptiveSteps(candidate_steps=(0,)), "never draft"),
        (lambda: BestByAverage((10.0,)), "one draft"),
        (lambda: AcceptanceGate(0, 2, 1.0), "at least one token"),
        (lambda: AcceptanceGate(3, 0, 1.0), "at least one request"),
        (lambda: LoadSchedule(((4, 1), (2, 3)), (1,)), "sort them"),
        (lambda: LoadSchedule(((4, 1),), ()), "numbers from 1 on"),
    ],
)
def test_nonsense_is_refused(make, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


def test_every_state_can_begin_another_text() -> None:
    controllers = [
        FixedDrafts(2),
        HeuristicSchedule(2, 4),
        HeuristicSchedule(2, 4, carries=True),
        AdaptiveSteps(),
        AcceptanceGate(2, 2, 0.5),
        LoadSchedule(((2, 3),), (1, 3)),
    ]
    for controller, count in itertools.product(controllers, (0, 1, 3)):
        state = controller.first()
        for _ in range(count):
            seen = RoundSeen(drafted=controller.drafts(state), accepted=0)
            state = controller.after(state, seen)
        assert controller.drafts(controller.ended(state)) >= 0
