"""Controllers on given texts: the exact walk beside plays, beside the policies that it shares, and
beside an enumeration of speculative decoding itself.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from pytest_specdec.acceptance.renewal import AcceptanceField
from pytest_specdec.common.errors import RequestError
from pytest_specdec.speedup.controlled import Controlled, controlled, in_hindsight, regret
from pytest_specdec.speedup.controllers import (
    AcceptanceGate,
    BestByAverage,
    Controller,
    FixedDrafts,
    HeuristicSchedule,
    LoadSchedule,
    RoundSeen,
)
from pytest_specdec.speedup.learning_controllers import AdaptiveSteps, TunedThreshold
from pytest_specdec.speedup.policies import Confidences, confident, fixed, scheduled

pytestmark = pytest.mark.slow

MOST = 4
TIMES = {1: lambda drafted: 10.0 + 3.0 * drafted}
CONTROLLERS: list[Controller] = [
    HeuristicSchedule(2, MOST),
    HeuristicSchedule(2, MOST, carries=True),
    AdaptiveSteps(candidate_steps=(1, 2, 4), warmup_batches=1, update_interval=2, carries=False),
    AdaptiveSteps(candidate_steps=(0, 2), warmup_batches=0, update_interval=1, carries=False),
    BestByAverage((10.0, 12.0, 13.0, 17.0, 19.0), window=2, probe=2),
    AcceptanceGate(3, 2, 1.2),
    LoadSchedule(((1, 4), (4, 1)), (1, 2, 5)),
]
STOPPING: list[Controller] = [
    FixedDrafts(MOST, 0.5),
    HeuristicSchedule(2, MOST, confidence=0.4),
    TunedThreshold(MOST, 0.4),
]


def made_up(seed: int, texts: int = 3, longest: int = 14, sure: bool = False) -> AcceptanceField:
    rng = np.random.default_rng(seed)
    accept = rng.beta(2, 1, (texts, 1, longest))
    accept = np.round(accept) if sure else accept
    lengths = rng.integers(longest - 4, longest + 1, texts)
    accept[np.broadcast_to(np.arange(longest) >= lengths[:, None, None], accept.shape)] = 0
    names = tuple(f"p{row}" for row in range(texts))
    return AcceptanceField(names, ("all",) * texts, accept, np.full(texts, 3), lengths)


def sure_of(of: AcceptanceField, seed: int = 0) -> Confidences:
    rng = np.random.default_rng(seed)
    texts, _, longest = of.accept.shape
    return Confidences(rng.random((texts, longest)), rng.random((texts, longest, MOST)))


@pytest.mark.parametrize("controller", [*CONTROLLERS, *STOPPING], ids=lambda one: one.name)
def test_the_exact_walk_is_what_plays_come_to(controller: Controller) -> None:
    of = made_up(1)
    sure = sure_of(of)
    exact = controlled(of, controller, most=MOST, confidences=sure)
    played = controlled(
        of, controller, most=MOST, confidences=sure, plays=4000, most_states=0, seed=3
    )
    assert exact.exact
    assert not played.exact
    # Every text's tokens are emitted, by accepted drafts and one token a round.
    np.testing.assert_allclose(exact.tokens, of.lengths - of.starts)
    assert abs(exact.acceptance_length - played.acceptance_length) < 4 * played.errors[0] + 1e-9
    assert abs(exact.drafted - played.drafted) < 4 * played.errors[1] + 1e-9
    assert exact.at_most == pytest.approx(played.at_most, abs=0.03)
    np.testing.assert_allclose(exact.rounds.sum(0), played.rounds.sum(0), atol=0.12)


def test_policies_that_have_a_walk_of_their_own_agree() -> None:
    of = made_up(2, texts=6, longest=30)
    sure = sure_of(of)
    for policy, controller in (
        *((fixed(of, k, MOST), FixedDrafts(k)) for k in range(MOST + 1)),
        (scheduled(of, 2, MOST), HeuristicSchedule(2, MOST)),
        *((confident(of, sure, at, MOST), FixedDrafts(MOST, at)) for at in (0.3, 0.7, 1.0)),
    ):
        walked = controlled(of, controller, most=MOST, confidences=sure)
        np.testing.assert_allclose(walked.rounds.sum((0, 1)), policy.rounds)
        assert walked.acceptance_length == pytest.approx(policy.acceptance_length)


def test_at_temperature_0_there_is_one_history() -> None:
    of = made_up(3, texts=5, longest=60, sure=True)
    for controller in (*CONTROLLERS, *STOPPING):
        walked = controlled(of, controller, most=MOST, confidences=sure_of(of), most_states=60)
        assert walked.exact
        np.testing.assert_allclose(walked.rounds, np.round(walked.rounds))


def test_nothing_takes_less_time_than_the_oracle() -> None:
    of = made_up(4, texts=6, longest=30)
    top = in_hindsight(of, TIMES[1], MOST)
    for controller in (*CONTROLLERS[:-1], *STOPPING):
        walked = controlled(of, controller, most=MOST, confidences=sure_of(of))
        lost = regret(walked, top, TIMES)
        assert lost.value >= -1e-12
        assert lost.interval is not None
        assert lost.interval[0] <= lost.value <= lost.interval[1]


def test_regret_of_a_policy_against_itself_is_none() -> None:
    walked = controlled(made_up(5), FixedDrafts(2))
    assert regret(walked, walked, TIMES).value == 0
    assert regret(walked, walked, TIMES, 0.1).interval == (0.0, 0.0)
    alone = controlled(made_up(5, texts=1), FixedDrafts(2))
    assert regret(alone, alone, TIMES).interval is None


def test_the_interval_of_a_regret_covers_what_other_prompts_show() -> None:
    schedule, other = HeuristicSchedule(2, MOST), FixedDrafts(2)
    everything = made_up(6, texts=2000, longest=16)
    walks = [controlled(everything, one, most=MOST) for one in (schedule, other)]
    truth = regret(*walks, TIMES).value

    def some(walked: Controlled, rows: np.ndarray) -> Controlled:
        return dataclasses.replace(walked, rounds=walked.rounds[rows], tokens=walked.tokens[rows])

    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        rows = rng.choice(2000, 30, replace=False)
        interval = regret(*(some(walked, rows) for walked in walks), TIMES).interval
        assert interval is not None
        covered += interval[0] <= truth <= interval[1]
    assert 270 <= covered <= 297  # 95 % of 300 and three standard errors; Student would widen it


def test_drafts_past_a_text_that_ended_by_itself_are_counted_with_limits() -> None:
    of = made_up(7, texts=1, sure=True)
    short = controlled(of, FixedDrafts(MOST))
    whole = controlled(of, FixedDrafts(MOST), limits=of.lengths + 10)
    assert whole.rounds.sum() == short.rounds.sum()
    assert whole.drafted == MOST
    assert short.drafted < MOST


def test_a_load_trace_is_counted_by_batch_size() -> None:
    walked = controlled(made_up(8, texts=2), LoadSchedule(((1, 3), (8, 0)), (1, 8, 8)))
    assert walked.loads == (1, 8)
    assert walked.rounds[:, 1, 1:].sum() == 0
    times = {1: lambda drafted: 10.0 + drafted, 8: lambda drafted: 20.0 + 5 * drafted}
    by_hand = sum(
        walked.rounds[:, at, drafted].sum() * times[load](drafted)
        for at, load in enumerate(walked.loads)
        for drafted in range(4)
    )
    assert walked.spent(times).sum() == pytest.approx(by_hand)
    with pytest.raises(RequestError, match="rounds of its own"):
        walked.speedup(times)


def test_what_cannot_be_walked_is_refused() -> None:
    of = made_up(9)
    with pytest.raises(RequestError, match="draft model without MTP heads"):
        controlled(of, FixedDrafts(3, 0.5))
    with pytest.raises(RequestError, match="raise --k"):
        controlled(of, FixedDrafts(3), most=2)


# Speculative decoding itself, enumerated ----------------------------------------------------------

VOCABULARY, LENGTH = 3, 6


def models() -> tuple[np.ndarray, np.ndarray]:
    """Target and drafter, each token's distribution by the token before."""
    rng = np.random.default_rng(5)
    return rng.dirichlet(np.ones(VOCABULARY), VOCABULARY), rng.dirichlet(
        np.ones(VOCABULARY), VOCABULARY
    )


def decoded(
    p: np.ndarray,
    q: np.ndarray,
    controller: Controller,
    text: tuple[int, ...],
    state,
    weight: float,
) -> np.ndarray:
    """(rounds, drafted, (tokens emitted) per weight), expected over all that decoding can do from
    here: drafts drawn from q, accepted with min(1, p/q), the residual after a rejection.
    """
    left = LENGTH - len(text)
    if left == 0:
        return np.zeros(2)
    k = min(controller.drafts(state), left - 1)
    total = np.array([weight, weight * k], dtype=float)
    for drafts in itertools.product(range(VOCABULARY), repeat=k):
        before, chance, alive = text[-1], weight, 1.0
        for token in drafts:
            chance *= q[before, token]
            before = token
        before = text[-1]
        for accepted in range(k + 1):
            seen = RoundSeen(drafted=k, accepted=accepted)
            kept = (*text, *drafts[:accepted])
            then = controller.after(state, seen)
            if accepted == k:
                rest, following = alive, p[before]
            else:
                token = drafts[accepted]
                a = min(1.0, p[before, token] / q[before, token])
                rest = alive * (1 - a)
                excess = np.maximum(p[before] - q[before], 0)
                following = excess / excess.sum() if excess.sum() > 0 else excess
                alive *= a
                before = token
            for token in range(VOCABULARY):
                if chance * rest * following[token] > 0:
                    total += decoded(
                        p, q, controller, (*kept, token), then, chance * rest * following[token]
                    )
    return total


@pytest.mark.parametrize(
    "controller",
    [
        HeuristicSchedule(1, 3),
        HeuristicSchedule(3, 3),
        AdaptiveSteps(candidate_steps=(0, 1, 2), warmup_batches=0, update_interval=1),
        BestByAverage((10.0, 13.0, 14.0), window=1, probe=1),
    ],
    ids=lambda one: one.name,
)
def test_the_walk_over_all_texts_is_decoding_enumerated(controller: Controller) -> None:
    p, q = models()
    enumerated = sum(
        decoded(p, q, controller, (0, first), controller.first(), p[0, first])
        for first in range(VOCABULARY)
    )
    texts = list(itertools.product(range(VOCABULARY), repeat=LENGTH - 1))
    rows = np.array([(0, *text) for text in texts])
    target = np.array([p[rows[:, at - 1], rows[:, at]] for at in range(1, LENGTH)]).T
    draft = np.array([q[rows[:, at - 1], rows[:, at]] for at in range(1, LENGTH)]).T
    accept = np.zeros((len(rows), 1, LENGTH))
    accept[:, 0, 2:] = np.minimum(1, draft / target)[:, 1:]
    names = tuple(map(str, range(len(rows))))
    of = AcceptanceField(names, names, accept, np.full(len(rows), 2), np.full(len(rows), LENGTH))
    fresh = dataclasses.replace(controller, carries=False) if controller.carries else controller
    rounds = controlled(of, fresh).rounds.sum(1)
    weights = target.prod(1)
    assert weights @ rounds.sum(1) == pytest.approx(enumerated[0], abs=1e-12)
    assert weights @ (rounds @ np.arange(rounds.shape[1])) == pytest.approx(
        enumerated[1], abs=1e-12
    )
