"""Controllers that run online beside what the walk expects on the very texts."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.embedded import Pair
from helpers.support import EMBEDDED

from pytest_specdec import Decoded, decode
from pytest_specdec.cases.case import Sampling
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.confidence import confidences
from pytest_specdec.decoding.drafters.registry import loaded_pair
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.decoding.replay import DrafterPlan, text_scores
from pytest_specdec.speedup.controlled import Controlled, controlled
from pytest_specdec.speedup.controllers import (
    AcceptanceGate,
    BestByAverage,
    Controller,
    FixedDrafts,
    HeuristicSchedule,
    LoadSchedule,
)
from pytest_specdec.speedup.learning_controllers import AdaptiveSteps, TunedThreshold

K = 5
STEPS = AdaptiveSteps(candidate_steps=(0, 2, 5), warmup_batches=2, update_interval=2)
CONTROLLERS: list[Controller] = [
    HeuristicSchedule(2, K),
    HeuristicSchedule(2, K, carries=True),
    HeuristicSchedule(2, K, confidence=0.4),
    TunedThreshold(K),
    STEPS,
    BestByAverage((10.0, 13.0, 14.0, 15.0, 16.0, 17.0), window=3, probe=2),
    AcceptanceGate(3, 2, 1.5),
    LoadSchedule(((1, 4), (4, 1)), (1, 2, 5, 5, 1)),
    FixedDrafts(1),
    FixedDrafts(0),
]


def run(
    pair: Pair, controller: Controller, temperature: float, prompts: list[list[int]], **options
) -> Decoded:
    return decode(
        pair.target,
        pair.draft,
        prompts,
        k=max(controller.most, 1),
        temperature=temperature,
        new_tokens=options.pop("new_tokens", 24),
        controller=controller,
        **options,
    )


def expected(
    pair: Pair, controller: Controller, decoded: Decoded, temperature: float
) -> Controlled:
    sampling = Sampling(temperature)
    (scores,) = text_scores(pair.target, [DrafterPlan(pair.draft, 0, K)], decoded.texts, sampling)
    sure = None
    if controller.stops:
        sure = confidences(pair.target, pair.draft, decoded.texts, k=K, sampling=sampling)
    field = scores.field("rejection" if temperature else "greedy")
    return controlled(field, controller, confidences=sure)


def both(decoded: Decoded, walked: Controlled) -> tuple[np.ndarray, np.ndarray]:
    """(texts, 2) each: rounds and drafted tokens, counted and expected."""
    counted = [[len(rounds), sum(one.drafted for one in rounds)] for rounds in decoded.rounds]
    drafts = walked.rounds.sum(1)
    return np.array(counted), np.stack([drafts.sum(1), drafts @ np.arange(drafts.shape[1])], 1)


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda one: one.name)
def test_greedy_rounds_are_those_of_the_walk(pair: Pair, controller: Controller) -> None:
    decoded = run(pair, controller, 0, pair.prompts[:6])
    counted, walked = both(decoded, expected(pair, controller, decoded, 0))
    np.testing.assert_array_equal(counted, walked)


@pytest.mark.parametrize(
    "controller",
    [HeuristicSchedule(2, K), HeuristicSchedule(2, K, confidence=0.4), STEPS],
    ids=lambda one: one.name,
)
def test_sampled_rounds_follow_the_walk(pair: Pair, controller: Controller) -> None:
    decoded = run(pair, controller, 1, pair.prompts[:24], batch_size=24, new_tokens=32)
    counted, walked = both(decoded, expected(pair, controller, decoded, 1))
    apart = counted - walked
    # Texts of a controller that carries its state depend on each other: within a text they do, too.
    z = apart.sum(0) / np.sqrt((apart**2).sum(0))
    assert (np.abs(z) < 3.5).all(), z


@pytest.mark.parametrize(
    "controller",
    [HeuristicSchedule(2, K), TunedThreshold(K), BestByAverage((10.0, 13.0, 14.0, 15.0), window=3)],
    ids=lambda one: one.name,
)
def test_rows_of_a_batch_are_controlled_each_for_itself(pair: Pair, controller: Controller) -> None:
    prompts = pair.prompts[:4]
    together = run(pair, controller, 0, prompts, batch_size=4)
    for prompt, text, rounds in zip(prompts, together.texts, together.rounds, strict=True):
        alone = run(pair, controller, 0, [prompt])
        assert alone.texts[0].ids == text.ids
        assert alone.rounds[0] == rounds


def test_texts_do_not_depend_on_the_controller(pair: Pair) -> None:
    prompts = pair.prompts[:3]
    plain = decode(pair.target, None, prompts, k=0, temperature=0, new_tokens=24)
    for controller in CONTROLLERS:
        decoded = run(pair, controller, 0, prompts)
        assert [text.ids for text in decoded.texts] == [text.ids for text in plain.texts]


def test_drafts_after_a_pause_are_those_of_a_drafter_that_read_everything(pair: Pair) -> None:
    """A pause right after rejected drafts: they must not stay in the drafter's cache."""
    pausing = LoadSchedule(((1, 5),), (1, 2, 2, 2))
    decoded = run(pair, pausing, 0, pair.prompts[:6], new_tokens=32)
    counted, walked = both(decoded, expected(pair, pausing, decoded, 0))
    np.testing.assert_array_equal(counted, walked)
    assert any(one.drafted and one.accepted < one.drafted for one in decoded.rounds[0])


@pytest.mark.parametrize(
    "controller",
    [HeuristicSchedule(3, K), HeuristicSchedule(3, K, carries=True), STEPS, FixedDrafts(4)],
    ids=lambda one: one.name,
)
def test_texts_that_end_by_themselves(pair: Pair, controller: Controller) -> None:
    ending = load_model(str(EMBEDDED / "text-target-eos"), "cpu")
    decoded = decode(
        ending,
        pair.draft,
        pair.prompts[::5][:8],
        k=controller.most,
        temperature=0,
        new_tokens=80,
        controller=controller,
    )
    lengths = [len(text.ids) - text.prompt_length for text in decoded.texts]
    assert min(lengths) < 80
    (scores,) = text_scores(ending, [DrafterPlan(pair.draft, 0, K)], decoded.texts, Sampling(0))
    limits = np.array([text.prompt_length + 80 for text in decoded.texts])
    walked = controlled(scores.field("greedy"), controller, limits=limits)
    counted, walked_counts = both(decoded, walked)
    np.testing.assert_array_equal(counted, walked_counts)
    np.testing.assert_array_equal(walked.tokens, np.array(lengths) - 1)


@pytest.mark.parametrize(
    "schedule",
    [HeuristicSchedule(2, 3), LoadSchedule(((1, 3),), (1, 2, 2))],
    ids=lambda one: one.name,
)
def test_heads_of_the_target_are_controlled_too(pair: Pair, schedule: Controller) -> None:
    decoded = decode(
        pair.target,
        "mtp",
        pair.prompts[:4],
        k=3,
        depth=3,
        temperature=0,
        new_tokens=24,
        controller=schedule,
        batch_size=1,
    )
    target, heads = loaded_pair(pair.target, "mtp", 3)
    (scores,) = text_scores(target, [DrafterPlan(heads, 3, 3)], decoded.texts, Sampling(0))
    counted, walked = both(decoded, controlled(scores.field("greedy"), schedule))
    np.testing.assert_array_equal(counted, walked)


def test_prompt_lookup_is_controlled_and_learns_in_pauses(pair: Pair) -> None:
    pausing = LoadSchedule(((1, 4),), (1, 2, 1))
    prompts = [[*prompt, *prompt] for prompt in pair.prompts[:4]]
    decoded = decode(
        pair.target,
        "prompt-lookup",
        prompts,
        k=4,
        temperature=0,
        new_tokens=40,
        controller=pausing,
    )
    target, lookup = loaded_pair(pair.target, "prompt-lookup", 0)
    (scores,) = text_scores(target, [DrafterPlan(lookup, 0, 4)], decoded.texts, Sampling(0))
    counted, walked = both(decoded, controlled(scores.field("greedy"), pausing))
    np.testing.assert_array_equal(counted, walked)
    assert counted[:, 1].sum() > 0


@pytest.mark.parametrize(
    ("drafter", "depth", "options", "message"),
    [
        ("mtp", 2, {"controller": FixedDrafts(2, 0.5)}, "stops by confidence"),
        ("draft", 0, {"controller": FixedDrafts(4)}, "pass k=4"),
        ("draft", 0, {"controller": FixedDrafts(2), "confidence": 0.5}, "leave out confidence"),
    ],
)
def test_controllers_that_do_not_go_with_a_drafter_are_refused(
    pair: Pair, drafter: str, depth: int, options: dict, message: str
) -> None:
    source = pair.draft if drafter == "draft" else drafter
    with pytest.raises(RequestError, match=message):
        decode(pair.target, source, pair.prompts[:1], k=2, depth=depth, new_tokens=4, **options)
    with pytest.raises(RequestError, match="needs a drafter"):
        decode(pair.target, None, pair.prompts[:1], k=0, controller=FixedDrafts(0))
