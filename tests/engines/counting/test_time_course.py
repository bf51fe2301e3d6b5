"""The course of a run: the three tests hold their level on runs of the models, and each finds the
fault that it is for.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from pytest_specdec.acceptance.counts import Array
from pytest_specdec.acceptance.renewal import accepted_distribution
from pytest_specdec.engines.counting import time_course as module
from pytest_specdec.engines.counting.time_course import PlayedRounds, TimeCourse, time_course

pytestmark = pytest.mark.slow

K, LONGEST = 3, 40
ALPHA = 0.01


def models(texts: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """Survival of every start, and starts, of texts that are easy and hard to draft."""
    ease = rng.uniform(0.4, 0.9, (texts, 1, 1))
    conditional = np.clip(ease + rng.uniform(-0.3, 0.3, (texts, LONGEST, K)), 0.02, 0.98)
    return conditional.cumprod(-1), rng.integers(1, 5, texts)


def run(
    survival: Array, starts: NDArray[np.int64], played_by: Array, rng: np.random.Generator
) -> PlayedRounds:
    """Rounds drawn by one survival, judged by another."""
    texts, longest, k = survival.shape
    played = np.arange(longest) + k <= longest
    chances = accepted_distribution(played_by)
    rounds = []
    for row in range(texts):
        at = int(starts[row])
        while at < longest and played[at]:
            taken = int(rng.choice(k + 1, p=chances[row, at]))
            rounds.append((row, at, taken))
            at += taken + 1
    rows, begun, accepted = np.array(rounds).T
    everywhere = np.broadcast_to(played, (texts, longest))
    return PlayedRounds(
        survival=survival,
        starts=starts,
        played=everywhere,
        counted=everywhere,
        rows=rows,
        begun=begun,
        accepted=accepted,
    )


def worse(survival: Array, where: NDArray[np.bool_], share: float) -> Array:
    """Conditional acceptance times a share at some (texts, starts)."""
    result = survival.copy()
    result[where] = survival[where] * share ** np.arange(1, survival.shape[-1] + 1)
    return result


def judged(rounds: PlayedRounds) -> TimeCourse:
    return time_course(rounds, alpha=ALPHA)


def test_a_right_engine_is_called_unsteady_at_most_at_alpha(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DRAWN", 399)
    rng = np.random.default_rng(1)
    unsteady = 0
    alpha, runs = 0.05, 160
    for _ in range(runs):
        survival, starts = models(12, rng)
        unsteady += not time_course(run(survival, starts, survival, rng), alpha=alpha).steady
    assert unsteady <= runs * alpha + 3 * math.sqrt(runs * alpha)


def test_each_bet_has_mean_1_under_the_models() -> None:
    """By enumeration of all paths of a short text."""
    rng = np.random.default_rng(2)
    survival = rng.uniform(0.2, 0.9, (1, 7, 2)).cumprod(-1)
    played = np.arange(7)[None] + 2 <= 7
    rounds = PlayedRounds(
        survival=survival,
        starts=np.array([1]),
        played=played,
        counted=played,
        rows=np.array([0]),
        begun=np.array([1]),
        accepted=np.array([0]),
    )
    chances, gains = accepted_distribution(survival)[0], rounds.gains()[0]

    def mean(at: int, bet: float) -> float:
        if at >= 7 or not played[0, at]:
            return 1.0
        return sum(
            chances[at, taken] * math.exp(bet * gains[at, taken]) * mean(at + taken + 1, bet)
            for taken in range(3)
        )

    for bet in module.BETS:
        (log_mean,) = module._log_means(rounds, bet)
        assert log_mean == pytest.approx(math.log(mean(1, bet)), abs=1e-12)


def test_drawn_scores_are_those_of_played_runs() -> None:
    rng = np.random.default_rng(3)
    survival, starts = models(4, rng)
    own = [run(survival, starts, survival, rng) for _ in range(400)]
    played = np.array([one.by_request(one.excess) for one in own])
    drawn = module._drawn_scores(own[0], rng)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=4 * drawn.std() / math.sqrt(len(drawn)))
    np.testing.assert_allclose(drawn.std(0), played.std(0), rtol=0.15)


def test_bad_first_rounds_are_named() -> None:
    rng = np.random.default_rng(4)
    survival, starts = models(60, rng)
    first = np.arange(LONGEST) == starts[:, None]
    course = judged(run(survival, starts, worse(survival, first, 0.3), rng))
    assert not course.steady
    assert "the first round of a text accepts" in course.message
    assert course.first.counted < course.first.expected


def test_a_change_is_named_with_its_request() -> None:
    rng = np.random.default_rng(5)
    survival, starts = models(60, rng)
    late = np.broadcast_to(np.arange(60)[:, None] >= 40, (60, LONGEST))
    course = judged(run(survival, starts, worse(survival, late, 0.7), rng))
    assert not course.steady
    assert abs(course.change - 40) <= 4
    assert f"after request {course.change} of 60 a round accepts" in course.message


def test_a_mixture_is_named_with_its_bad_requests() -> None:
    rng = np.random.default_rng(6)
    survival, starts = models(60, rng)
    bad = rng.permutation(60) < 12
    where = np.broadcast_to(bad[:, None], (60, LONGEST))
    course = judged(run(survival, starts, worse(survival, where, 0.25), rng))
    assert course.mixture_p_value <= ALPHA / 3
    assert set(course.bad) <= set(np.flatnonzero(bad).tolist())
    assert len(course.bad) >= 6
    only = dataclasses.replace(course, first_p_value=1.0, change_e_value=1.0)
    assert "the requests are a mixture" in only.message


def test_a_loss_from_the_begin_on_is_no_change() -> None:
    """It is the oracle's sum that finds it; the likeliest change lies at the begin."""
    rng = np.random.default_rng(7)
    survival, starts = models(60, rng)
    everywhere = np.ones((60, LONGEST), dtype=bool)
    course = judged(run(survival, starts, worse(survival, everywhere, 0.8), rng))
    assert course.change <= 5


def test_one_request_has_no_change() -> None:
    rng = np.random.default_rng(8)
    survival, starts = models(1, rng)
    course = judged(run(survival, starts, survival, rng))
    assert course.change_e_value == 1.0
    assert course.message.startswith("1 requests accept") or not course.steady


def test_what_is_certain_is_steady() -> None:
    survival = np.ones((3, 12, 2))
    starts = np.array([1, 1, 1])
    course = judged(run(survival, starts, survival, np.random.default_rng(0)))
    assert course.steady
    assert course.p_value == 1.0


@pytest.mark.parametrize(
    ("first", "change", "mixture"), [*itertools.product([1e-9, 1.0], repeat=3)]
)
def test_the_message_names_what_decided(first: float, change: float, mixture: float) -> None:
    rng = np.random.default_rng(9)
    survival, starts = models(6, rng)
    course = dataclasses.replace(
        judged(run(survival, starts, survival, rng)),
        first_p_value=first,
        change_e_value=1 / change,
        mixture_p_value=mixture,
    )
    assert course.steady == (first == change == mixture == 1.0)
    words = {
        "first round": first,
        "after request": change if first == 1.0 else 1.0,
        "mixture": mixture if first == change == 1.0 else 1.0,
    }
    for word, value in words.items():
        assert (word in course.message) == (value < 1)
