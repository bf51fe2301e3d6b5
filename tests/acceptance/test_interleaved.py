"""Scores of judged tokens alone, against rounds enumerated by hand on the interleaved stream."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers.records import PROPERTY, case
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pytest_specdec.acceptance.first_rounds import Samples
from pytest_specdec.acceptance.interleaved import judged_scores, judged_tokens
from pytest_specdec.acceptance.renewal import expected_counts
from pytest_specdec.acceptance.scores import Scores
from pytest_specdec.cases.case import OWN_HEADS, JudgedRange
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import MeasurementError

AUDIO = JudgedRange(10, 20, 2)


def scored(
    every: int, heads: int, steps: int, seed: int = 0, prompt: int = 3
) -> tuple[Scores, Text]:
    """A text of whole steps (given ids below 10, judged ones from 10 on) with random scores."""
    rng = np.random.default_rng(seed)
    ids = [1] * prompt + [token for _ in range(steps) for token in (*[2] * (every - 1), 10)]
    text = Text("p", "all", tuple(ids), prompt)
    target, draft = (np.log(rng.random(shape)) for shape in ((1, len(ids)), (1, heads, len(ids))))
    return Scores(
        ("p",), ("all",), target, draft, np.array([prompt + 1]), np.array([len(ids)])
    ), text


def brute_force(
    accept: dict[tuple[int, int], float], judged: int, k: int
) -> tuple[float, list[float]]:
    """Expected rounds and accepted drafts by position; `accept[start, step]`, the prompt pass emits
    judged token 0.
    """
    rounds, accepted = 0.0, [0.0] * k
    chances = {1: 1.0}
    for start in range(1, judged):
        weight = chances.get(start, 0.0)
        if start + k > judged or not weight:
            continue
        rounds += weight
        alive = weight
        for step in range(k):
            fail = alive * (1 - accept[start, step])
            chances[start + step + 1] = chances.get(start + step + 1, 0.0) + fail
            alive *= accept[start, step]
            accepted[step] += alive
        chances[start + k + 1] = chances.get(start + k + 1, 0.0) + alive
    return rounds, accepted


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("rule", ["rejection", "sample-match"])
def test_a_draft_models_passes_start_before_judged_tokens_and_skip_given_ones(
    every: int, depth: int, rule: str
) -> None:
    judged, k, steps = JudgedRange(10, 20, every), 4, 12
    scores, text = scored(every, 1 + depth, steps)
    counts = expected_counts(judged_scores(scores, [text], judged).field(rule), k)
    heads_used = 1 + depth // every
    accept = {}
    for start, step in itertools.product(range(steps), range(k)):
        if start + step < steps:
            at = (
                text.prompt_length + every * (start + step) + every - 1
            )  # of the judged token on the stream
            log_q = scores.draft[0, every * (step % heads_used), at]
            log_p = scores.target[0, at]
            accept[start, step] = (
                np.exp(min(0.0, log_q - log_p)) if rule == "rejection" else np.exp(log_q)
            )
    rounds, accepted = brute_force(accept, steps, k)
    assert_allclose(counts.rounds, [rounds])
    assert_allclose(counts.accepted[0], accepted)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_own_heads_draft_from_the_last_emitted_token(every: int) -> None:
    judged, k, steps = JudgedRange(10, 20, every), 3, 10
    scores, text = scored(every, every * k, steps)
    counts = expected_counts(
        judged_scores(scores, [text], judged, own_heads=True).field("rejection"), k
    )
    accept = {}
    for start, step in itertools.product(range(steps), range(k)):
        if start + step < steps:
            at = text.prompt_length + every * (start + step) + every - 1
            accept[start, step] = np.exp(
                min(0.0, scores.draft[0, every * step + every - 1, at] - scores.target[0, at])
            )
    rounds, accepted = brute_force(accept, steps, k)
    assert_allclose(counts.rounds, [rounds])
    assert_allclose(counts.accepted[0], accepted)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("own_heads", [False, True])
def test_block_verification_takes_its_running_minimum_over_judged_tokens_alone(
    every: int, own_heads: bool
) -> None:
    judged, k, steps, depth = JudgedRange(10, 20, every), 3, 10, 3
    scores, text = scored(every, every * k if own_heads else 1 + depth, steps)
    counts = expected_counts(
        judged_scores(scores, [text], judged, own_heads=own_heads).field("block"), k
    )
    accept = {}
    for start in range(1, steps - k + 1):
        product, alive = 1.0, 1.0
        for step in range(k):
            at = text.prompt_length + every * (start + step) + every - 1
            head = every * step + every - 1 if own_heads else every * (step % (1 + depth // every))
            product *= np.exp(scores.draft[0, head, at] - scores.target[0, at])
            accept[start, step] = min(alive, product) / alive
            alive = min(alive, product)
    rounds, accepted = brute_force(accept, steps, k)
    assert_allclose(counts.rounds, [rounds])
    assert_allclose(counts.accepted[0], accepted)


@pytest.mark.parametrize(("right", "taken"), [([1, 1, 1], 3), ([1, 0, 1], 1), ([0, 1, 1], 0)])
def test_greedy_accepts_judged_arg_maxes_up_to_the_first_other(
    right: list[int], taken: int
) -> None:
    scores, text = scored(2, 1, 4)
    at = text.prompt_length + 1 + 2 * np.arange(1, 4)
    scores.target[:], scores.draft[:] = 0.0, -np.inf
    scores.draft[0, 0, at] = np.where(right, 0.0, -np.inf)
    counts = expected_counts(judged_scores(scores, [text], AUDIO).field("greedy"), 3)
    assert (counts.rounds.tolist(), counts.accepted.sum()) == ([1.0], taken)


@given(
    every=st.integers(2, 4), heads=st.integers(1, 6), k=st.integers(1, 4), seed=st.integers(0, 99)
)
@PROPERTY
@pytest.mark.parametrize("own_heads", [False, True])
def test_given_tokens_and_their_scores_are_free(
    own_heads: bool, every: int, heads: int, k: int, seed: int
) -> None:
    judged = JudgedRange(10, 20, every)
    scores, text = scored(every, heads * every, 8, seed)
    rng = np.random.default_rng(seed)
    free = np.ones(len(text.ids), dtype=bool)
    free[text.prompt_length + every - 1 :: every] = False
    ids = np.where(free, rng.choice([0, 5, 9, 20, 99], len(free)), rng.integers(10, 20, len(free)))
    other = Text("p", "all", tuple(ids.tolist()), text.prompt_length)
    target, draft = scores.target.copy(), scores.draft.copy()
    target[:, free], draft[:, :, free] = -rng.random(free.sum()), -np.inf
    moved = Scores(("p",), ("all",), target, draft, scores.starts, scores.lengths)
    plain, changed = (
        expected_counts(
            judged_scores(text_scores, [scored_text], judged, own_heads=own_heads).field(
                "rejection"
            ),
            k,
        )
        for text_scores, scored_text in ((scores, text), (moved, other))
    )
    assert_allclose(plain.rounds, changed.rounds)
    assert_allclose(plain.accepted, changed.accepted)


def test_each_text_has_its_own_prompt_and_length() -> None:
    (short, short_text), (long, long_text) = (
        scored(2, 2, 6, seed=1, prompt=2),
        scored(2, 2, 9, seed=2, prompt=5),
    )
    width = len(long_text.ids) - len(short_text.ids)
    padded = (
        np.pad(short.target, ((0, 0), (0, width))),
        np.pad(short.draft, ((0, 0), (0, 0), (0, width)), constant_values=-np.inf),
    )
    joined = (
        np.concatenate([ours, theirs])
        for ours, theirs in zip(padded, (long.target, long.draft), strict=True)
    )
    both = Scores(("p", "q"), ("all", "all"), *joined, np.array([3, 6]), np.array([14, 23]))
    counts = expected_counts(
        judged_scores(both, [short_text, long_text], AUDIO).field("rejection"), 3
    )
    for row, (text_scores, text) in enumerate(((short, short_text), (long, long_text))):
        alone = expected_counts(judged_scores(text_scores, [text], AUDIO).field("rejection"), 3)
        assert_allclose(counts.rounds[row], alone.rounds[0])
        assert_allclose(counts.accepted[row], alone.accepted[0])


@given(depth=st.integers(0, 3), k=st.integers(1, 5), seed=st.integers(0, 99))
@PROPERTY
@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
def test_judging_every_token_is_plain_replay(rule: str, depth: int, k: int, seed: int) -> None:
    scores, text = scored(1, 1 + depth, 14, seed)
    plain = expected_counts(scores.field(rule), k)
    judged = expected_counts(judged_scores(scores, [text], JudgedRange(10, 11)).field(rule), k)
    assert_allclose(judged.rounds, plain.rounds)
    assert_allclose(judged.accepted, plain.accepted)


def test_judged_tokens_end_at_the_first_step_of_another_shape() -> None:
    assert judged_tokens([2, 10, 2, 11, 2, 12], AUDIO) == [10, 11, 12]
    assert judged_tokens([2, 10, 2, 3, 2, 12], AUDIO) == [10]
    assert judged_tokens([2, 10, 11, 12], AUDIO) == [10]
    assert judged_tokens([2, 10, 2], AUDIO) == [10]
    assert judged_tokens([10, 2], AUDIO) == []


def test_a_slip_costs_what_follows_it_and_too_many_are_an_error() -> None:
    scores, text = scored(2, 1, 40)
    slipped = [*text.ids]
    slipped[-2] = 10
    kept = judged_scores(scores, [Text("p", "all", tuple(slipped), 3)], AUDIO)
    assert kept.lengths.tolist() == [39]
    slipped[15] = 10
    with pytest.raises(
        MeasurementError,
        match=r"do not consist of steps of 2 tokens .* in 10:20.*prompt p leaves .* after 6 steps",
    ):
        judged_scores(scores, [Text("p", "all", tuple(slipped), 3)], AUDIO)


@pytest.mark.parametrize(
    ("k", "depth", "verified", "drafted", "heads"),
    [(4, 0, 8, 4, 1), (4, 1, 8, 8, 1), (4, 2, 8, 6, 2), (5, 3, 10, 12, 2), (16, 3, 32, 32, 2)],
)
def test_what_a_round_passes_over(
    k: int, depth: int, verified: int, drafted: int, heads: int
) -> None:
    draft_case = case(k=k, depth=depth, judged=AUDIO)
    assert (draft_case.verified, draft_case.drafted, draft_case.heads) == (verified, drafted, heads)
    heads_case = case(k=k, depth=depth, judged=AUDIO, drafter=OWN_HEADS)
    assert (heads_case.verified, heads_case.drafted, heads_case.heads) == (
        verified,
        verified,
        depth // 2,
    )
    plain = case(k=k, depth=depth)
    assert (plain.verified, plain.drafted) == (k, k)


def test_the_name_of_a_judged_case_says_so() -> None:
    assert case(judged=AUDIO).name == "draft-k8-depth0-t1-ids10-19"
    assert str(AUDIO) == "10:20:2"


@given(heads=st.integers(1, 3), k=st.integers(1, 4), seed=st.integers(0, 99))
@PROPERTY
@pytest.mark.parametrize("rule", ["rejection", "block"])
def test_a_sample_is_the_only_round_of_a_text_cut_to_it(
    rule: str, heads: int, k: int, seed: int
) -> None:
    scores, _ = scored(1, heads, 9, seed)
    samples = Samples.of(scores.field(rule), k)
    short = Scores(("p",), ("all",), scores.target, scores.draft, scores.starts, scores.starts + k)
    counts = expected_counts(short.field(rule), k)
    assert counts.rounds.tolist() == [1.0]
    assert_allclose(samples.survival, counts.accepted)
    assert_allclose(samples.rate * k, samples.accepted)
    assert samples.drafted.tolist() == [k]


@given(available=st.integers(0, 6), k=st.integers(1, 4), seed=st.integers(0, 99))
@PROPERTY
def test_a_sample_drafts_no_more_than_there_is_to_draft(available: int, k: int, seed: int) -> None:
    scores, _ = scored(1, 4, 9, seed)
    short = Scores(
        ("p",),
        ("all",),
        scores.target,
        scores.draft,
        scores.starts,
        scores.starts + k,
        np.full(scores.target.shape, available),
    )
    samples, counts = (
        Samples.of(short.field("rejection"), k),
        expected_counts(short.field("rejection"), k),
    )
    assert samples.drafted.tolist() == [min(available, k)] == [counts.drafted.sum()]
    assert_allclose(samples.survival, counts.accepted)
    assert_allclose(samples.rate * samples.drafted, samples.accepted)


def test_samples_start_where_each_text_does() -> None:
    scores, _ = scored(1, 2, 9)
    starts = np.array([2, 5, 9])
    fields = [
        Scores(("p",), ("all",), scores.target, scores.draft, starts[row, None], scores.lengths)
        for row in range(3)
    ]
    three = (np.repeat(scores.target, 3, axis=0), np.repeat(scores.draft, 3, axis=0))
    whole = Scores(("a", "b", "c"), ("all",) * 3, *three, starts, np.repeat(scores.lengths, 3))
    together = Samples.of(whole.field("rejection"), 3)
    assert together.prompts == ("a", "b", "c")
    assert_allclose(
        together.survival,
        np.concatenate(
            [Samples.of(text_field.field("rejection"), 3).survival for text_field in fields]
        ),
    )


def test_texts_without_a_whole_round_give_no_sample() -> None:
    scores, _ = scored(1, 1, 4)
    assert Samples.of(scores.field("rejection"), 3).prompts == ("p",)
    assert Samples.of(scores.field("rejection"), 4).prompts == ()


@given(every=st.integers(1, 4), new=st.lists(st.sampled_from([2, 9, 10, 19, 20]), max_size=24))
@PROPERTY
def test_judged_tokens_are_the_last_of_the_longest_run_of_whole_steps(
    every: int, new: list[int]
) -> None:
    judged = JudgedRange(10, 20, every)
    shape = [False] * (every - 1) + [True]
    whole = max(
        steps
        for steps in range(len(new) // every + 1)
        if [10 <= token < 20 for token in new[: steps * every]] == shape * steps
    )
    assert judged_tokens(new, judged) == new[every - 1 : whole * every : every]


def test_the_text_that_lost_most_is_named_and_not_the_shortest() -> None:
    (scores, short), (_, long) = scored(2, 1, 2), scored(2, 1, 9)
    slipped = Text("q", "all", (*long.ids[:5], 10, *long.ids[6:]), 3)
    wide = Scores(
        ("p", "q"),
        ("all",) * 2,
        np.zeros((2, 21)),
        np.zeros((2, 1, 21)),
        np.array([4, 4]),
        np.array([7, 21]),
    )
    with pytest.raises(
        MeasurementError, match="the text of prompt q leaves the pattern after 1 steps"
    ):
        judged_scores(wide, [short, slipped], AUDIO)
    assert scores.lengths.tolist() == [7]


def test_texts_without_a_whole_step_have_no_rounds_and_no_samples() -> None:
    scores, text = scored(1, 1, 3)
    judged = judged_scores(scores, [text], JudgedRange(10, 20, 9))
    assert judged.lengths.tolist() == [0]
    assert expected_counts(judged.field("rejection"), 2).total_rounds == 0
    assert Samples.of(judged.field("rejection"), 2).prompts == ()
