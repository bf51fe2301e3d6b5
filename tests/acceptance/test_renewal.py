"""Expected rounds of a given text, against the enumeration of every way the rounds can fall."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pytest_specdec.acceptance.counts import Array, Counts
from pytest_specdec.acceptance.renewal import (
    AcceptanceField,
    End,
    expected_counts,
    sample_rounds,
    with_requests,
)

Rounds = list[tuple[int, int, int]]
"""(start, drafted, accepted) of each round of one play."""

ENDS: tuple[End, ...] = ("inside", "clip", "whole")
LEAST = {"clip": 2, "whole": 1}
"""Tokens left from which on a round is counted; k where it must have room for all."""


def field_of(
    accept: Array,
    starts: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    prefix: str = "p",
) -> AcceptanceField:
    texts, _, longest = accept.shape
    return AcceptanceField(
        tuple(f"{prefix}{row}" for row in range(texts)),
        ("all",) * texts,
        accept,
        np.array([0] * texts if starts is None else starts),
        np.array([longest] * texts if lengths is None else lengths),
    )


def random_field(
    seed: int, *, texts: int = 1, heads: int = 1, longest: int = 7, start: int = 0
) -> AcceptanceField:
    return field_of(np.random.default_rng(seed).random((texts, heads, longest)), [start] * texts)


def joint_field(
    seed: int,
    *,
    texts: int = 1,
    heads: int = 1,
    longest: int = 7,
    start: int = 0,
    most: int | None = None,
) -> AcceptanceField:
    """Ratios q/p on both sides of 1; with `most`, 0 to that many drafts are available at each
    start.
    """
    rng = np.random.default_rng(seed)
    field = field_of(np.exp(rng.normal(size=(texts, heads, longest))), [start] * texts)
    available = None if most is None else rng.integers(0, most + 1, (texts, longest))
    return dataclasses.replace(field, joint=True, available=available)


def certain_field(
    seed: int, *, texts: int = 4, heads: int = 2, longest: int = 30
) -> AcceptanceField:
    """Every acceptance 0 or 1, as at temperature 0."""
    return field_of(
        (np.random.default_rng(seed).random((texts, heads, longest)) < 0.7).astype(float),
        [1] * texts,
    )


@st.composite
def any_field(draw: st.DrawFn) -> AcceptanceField:
    texts, heads, longest = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 7)),
    )
    chance = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
    values = draw(
        st.lists(chance, min_size=texts * heads * longest, max_size=texts * heads * longest)
    )
    lengths = draw(st.lists(st.integers(1, longest), min_size=texts, max_size=texts))
    starts = [draw(st.integers(0, length)) for length in lengths]
    return field_of(np.array(values).reshape(texts, heads, longest), starts, lengths)


@st.composite
def any_kind_of_field(draw: st.DrawFn) -> AcceptanceField:
    """Also accepted jointly, then with ratios above 1, and from a drafter that has not always k
    tokens to propose.
    """
    field = draw(any_field())
    joint, most = draw(st.booleans()), field.accept.shape[2]
    available = None
    if draw(st.booleans()):
        row = st.lists(st.integers(0, 5), min_size=most, max_size=most)
        available = np.array([draw(row) for _ in field.prompts])
    accept = field.accept * draw(st.sampled_from([1.0, 2.0, 5.0])) if joint else field.accept
    return dataclasses.replace(field, accept=accept, joint=joint, available=available)


def survives(field: AcceptanceField, row: int, start: int, drafted: int) -> list[float]:
    """The chance that a round accepts at least 0, 1, ... drafts, and 0 for more than it drafted."""
    chances = [
        float(field.accept[row, step % field.accept.shape[1], start + step])
        for step in range(drafted)
    ]
    products = list(
        itertools.accumulate(chances, lambda product, chance: product * chance, initial=1.0)
    )
    return [
        *(
            min(products[: taken + 1]) if field.joint else products[taken]
            for taken in range(drafted + 1)
        ),
        0.0,
    ]


def plays(
    field: AcceptanceField, row: int, start: int, k: int, end: End
) -> Iterator[tuple[float, Rounds]]:
    """Every sequence of rounds over one text, with its probability; written from the definition,
    not from the code.
    """
    left = int(field.lengths[row]) - start
    if left < LEAST.get(end, k):
        yield 1.0, []
        return
    proposes = k if field.available is None else min(k, int(field.available[row, start]))
    drafted = proposes if end == "inside" else min(proposes, left - 1)
    reached = survives(field, row, start, drafted)
    for taken in range(drafted + 1):
        chance = reached[taken] - reached[taken + 1]
        for rest, rounds in plays(field, row, start + taken + 1, k, end):
            yield chance * rest, [(start, drafted, taken), *rounds]


def enumerated(field: AcceptanceField, k: int, end: End) -> tuple[Array, Array, Array]:
    """Expected rounds, drafted and accepted by summing over all plays."""
    texts = len(field.prompts)
    rounds, drafted, accepted = np.zeros(texts), np.zeros((texts, k)), np.zeros((texts, k))
    for row in range(texts):
        total = 0.0
        for chance, played in plays(field, row, int(field.starts[row]), k, end):
            total += chance
            for _, proposed, taken in played:
                rounds[row] += chance
                drafted[row, :proposed] += chance
                accepted[row, :taken] += chance
        assert total == pytest.approx(1.0)
    return rounds, drafted, accepted


def tallied(
    field: AcceptanceField, played: list[list[tuple[int, int]]], k: int, end: End
) -> tuple[Array, Array, Array]:
    """Sampled rounds as counts."""
    texts = len(field.prompts)
    rounds, drafted, accepted = np.zeros(texts), np.zeros((texts, k)), np.zeros((texts, k))
    for row, text_rounds in enumerate(played):
        for start, taken in text_rounds:
            rounds[row] += 1
            proposed = k if field.available is None else min(k, int(field.available[row, start]))
            drafted[
                row,
                : proposed
                if end == "inside"
                else min(proposed, int(field.lengths[row]) - start - 1),
            ] += 1
            accepted[row, :taken] += 1
    return rounds, drafted, accepted


def assert_counts(computed: Counts, wanted: tuple[Array, Array, Array]) -> None:
    for name, array in zip(("rounds", "drafted", "accepted"), wanted, strict=True):
        assert_allclose(getattr(computed, name), array, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_expected_counts_equal_the_enumeration_of_all_outcomes(
    k: int, heads: int, end: End
) -> None:
    field = random_field(k, texts=2, heads=heads, longest=8, start=1)
    assert_counts(expected_counts(field, k, end), enumerated(field, k, end))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_jointly_accepted_positions_equal_the_enumeration(k: int, heads: int, end: End) -> None:
    field = joint_field(k, texts=2, heads=heads, longest=8, start=1)
    assert_counts(expected_counts(field, k, end), enumerated(field, k, end))
    apart = expected_counts(
        dataclasses.replace(field, accept=np.minimum(field.accept, 1.0), joint=False), k, end
    )
    assert (k == 1) == np.allclose(expected_counts(field, k, end).accepted, apart.accepted)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_a_varying_number_of_drafts_equals_the_enumeration(k: int, joint: bool, end: End) -> None:
    field = joint_field(k, texts=2, heads=k, longest=9, start=1, most=k)
    field = dataclasses.replace(
        field, accept=field.accept if joint else np.minimum(field.accept, 1.0), joint=joint
    )
    computed = expected_counts(field, k, end)
    assert_counts(computed, enumerated(field, k, end))
    assert computed.drafted.sum() < k * computed.rounds.sum()


@given(any_kind_of_field(), st.integers(1, 4), st.sampled_from(ENDS))
@PROPERTY
def test_expected_counts_equal_the_enumeration_of_any_field(
    field: AcceptanceField, k: int, end: End
) -> None:
    assert_counts(expected_counts(field, k, end), enumerated(field, k, end))


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", ["plain", "joint", "joint, few drafts"])
def test_the_mean_of_sampled_rounds_agrees_with_the_expectation(kind: str, end: End) -> None:
    field = random_field(3, heads=2, longest=20, start=2)
    if kind != "plain":
        field = joint_field(3, heads=2, longest=20, start=2, most=3 if "few" in kind else None)
    rng, runs = np.random.default_rng(0), 1200
    samples = [tallied(field, sample_rounds(field, 3, rng, end), 3, end) for _ in range(runs)]
    expected = expected_counts(field, 3, end)
    for at, name in enumerate(("rounds", "drafted", "accepted")):
        drawn = np.array([sample[at][0] for sample in samples])
        error = drawn.std(axis=0, ddof=1) / np.sqrt(runs)
        assert (error > 0).all()
        assert (np.abs(drawn.mean(axis=0) - getattr(expected, name)[0]) < 4 * error).all()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("seed", range(4))
def test_certain_acceptances_leave_one_play_and_it_is_the_expectation(seed: int, end: End) -> None:
    field = certain_field(seed)
    played = sample_rounds(field, 4, np.random.default_rng(seed), end)
    assert played == sample_rounds(field, 4, np.random.default_rng(seed + 100), end)
    computed = expected_counts(field, 4, end)
    for name, array in zip(
        ("rounds", "drafted", "accepted"), tallied(field, played, 4, end), strict=True
    ):
        assert (getattr(computed, name) == array).all()


@given(any_kind_of_field(), st.integers(1, 4), st.integers(0, 99))
@PROPERTY
def test_clipped_rounds_emit_exactly_the_text(field: AcceptanceField, k: int, seed: int) -> None:
    """A last token that is left alone takes a step without drafts, and that is not a round."""
    for row, rounds in enumerate(sample_rounds(field, k, np.random.default_rng(seed), "clip")):
        position = int(field.starts[row])
        for start, taken in rounds:
            assert start == position
            position += taken + 1
        assert position in (field.lengths[row] - 1, field.lengths[row])


@given(any_kind_of_field(), st.integers(1, 4), st.integers(0, 99))
@PROPERTY
def test_whole_rounds_emit_exactly_the_text(field: AcceptanceField, k: int, seed: int) -> None:
    for row, rounds in enumerate(sample_rounds(field, k, np.random.default_rng(seed), "whole")):
        assert sum(taken + 1 for _, taken in rounds) == field.lengths[row] - field.starts[row]


@given(any_kind_of_field(), st.integers(1, 4))
@PROPERTY
def test_passes_of_a_request_are_those_of_every_way_to_emit_it(
    field: AcceptanceField, k: int
) -> None:
    """Written out way by way: each pass emits what it accepts and one token more, and the ways emit
    all of the text.
    """
    computed = with_requests(expected_counts(field, k), field)
    assert computed.passes is not None
    assert computed.emitted is not None
    rounds, _, accepted = enumerated(field, k, "whole")
    assert_allclose(computed.passes, rounds, atol=1e-9)
    assert_allclose(computed.emitted, rounds + accepted.sum(1), atol=1e-9)
    assert (computed.rounds <= computed.passes + 1e-9).all()
    assert (computed.emitted <= (k + 1) * computed.passes + 1e-9).all()


@given(any_field(), st.integers(1, 3))
@PROPERTY
def test_a_larger_k_never_takes_more_passes(field: AcceptanceField, k: int) -> None:
    """On the same tokens: what each k counts inside the text alone may say otherwise."""
    field = field.first_heads(1)
    few, many = (expected_counts(field, drafts, "whole").rounds for drafts in (k, k + 1))
    assert (many <= few + 1e-9).all()


def test_starts_inside_the_text_flatter_a_larger_k() -> None:
    """Early tokens are accepted, late ones never: 8 leaves out the bad end that 2 counts, a request
    does not.
    """
    accept = np.ones((1, 1, 21))
    accept[:, :, 12:] = 0.0
    field = field_of(accept, [1])
    small, large = (with_requests(expected_counts(field, k), field) for k in (2, 8))
    inside = large.acceptance_length / small.acceptance_length
    whole = large.request_length / small.request_length
    assert small.emitted is not None
    assert large.emitted is not None
    assert small.emitted[0] == large.emitted[0] == 20
    assert inside > whole > 1


def test_a_text_without_a_second_token_takes_no_pass() -> None:
    field = field_of(np.ones((2, 1, 4)), [1, 1], [1, 4])
    computed = with_requests(expected_counts(field, 2), field)
    assert computed.emitted is not None
    assert computed.passes is not None
    assert computed.emitted.tolist() == [0, 3]
    assert computed.passes.tolist() == [0, 1]
    assert computed.request_length == 3


def test_clipped_rounds_and_accepted_tokens_add_up_to_the_text() -> None:
    accept = np.ones((1, 1, 13))
    computed = expected_counts(field_of(accept, [1]), 3, "clip")
    assert computed.rounds[0] + computed.accepted.sum() == 13 - 1


@given(any_field(), st.integers(1, 4))
@PROPERTY
def test_rounds_inside_the_text_draft_every_position(field: AcceptanceField, k: int) -> None:
    computed = expected_counts(field, k, "inside")
    assert_allclose(computed.drafted, np.repeat(computed.rounds[:, None], k, axis=1))


@given(any_kind_of_field(), st.integers(1, 4), st.sampled_from(ENDS))
@PROPERTY
def test_no_position_is_accepted_more_often_than_the_one_before(
    field: AcceptanceField, k: int, end: End
) -> None:
    computed = expected_counts(field, k, end)
    reached = np.concatenate([computed.rounds[:, None], computed.accepted], axis=1)
    assert (np.diff(reached, axis=1) <= 1e-12).all()
    assert (computed.accepted <= computed.drafted + 1e-12).all()


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.8, 1.0])
def test_one_draft_a_round_follows_its_closed_form(chance: float) -> None:
    """Visits of position t obey v(t) = (1 - a) v(t-1) + a v(t-2), so v(t) = (1 - (-a)^(t+1)) / (1 +
    a).
    """
    computed = expected_counts(field_of(np.full((1, 1, 25), chance)), 1)
    visits = [(1 - (-chance) ** (position + 1)) / (1 + chance) for position in range(25)]
    assert computed.rounds[0] == pytest.approx(sum(visits))
    assert computed.accepted[0, 0] == pytest.approx(chance * sum(visits))


@pytest.mark.parametrize("k", [1, 4, 9])
def test_a_constant_acceptance_gives_the_geometric_length(k: int) -> None:
    """The one case in which (1 - a^(k+1)) / (1 - a) may be used."""
    computed = expected_counts(field_of(np.full((2, 1, 40), 0.8), [0, 3]), k)
    assert computed.acceptance_length == pytest.approx((1 - 0.8 ** (k + 1)) / (1 - 0.8))


def test_a_text_shorter_than_a_round_has_no_round_inside() -> None:
    field = random_field(1, longest=4, start=2)
    assert expected_counts(field, 3, "inside").total_rounds == 0
    assert expected_counts(field, 2, "inside").total_rounds == 1


def test_padding_and_neighbours_do_not_change_a_text() -> None:
    alone = random_field(5, longest=6)
    padded = np.random.default_rng(6).random((2, 1, 11))
    padded[0, :, :6] = alone.accept[0]
    together = expected_counts(field_of(padded, lengths=[6, 11]), 3)
    assert_counts(
        together.select([0]),
        tuple(
            getattr(expected_counts(alone, 3), name) for name in ("rounds", "drafted", "accepted")
        ),
    )


def test_step_i_is_drafted_by_head_i_modulo_heads() -> None:
    accept = np.array([[[0.1] * 9, [0.2] * 9, [0.3] * 9]])
    survival = field_of(accept).survival(np.full((1, 9), 5), 5)
    assert_allclose(survival[0, 2], np.cumprod([0.1, 0.2, 0.3, 0.1, 0.2]))


def test_steps_past_the_end_are_never_accepted() -> None:
    survival = field_of(np.full((1, 1, 5), 0.9)).survival(np.full((1, 5), 4), 4)
    assert_allclose(survival[0, 3], [0.9, 0.81, 0.0, 0.0])


def test_first_heads_leaves_the_others_unused() -> None:
    field = random_field(2, heads=3, longest=10)
    computed = expected_counts(field.first_heads(1), 4)
    assert_counts(computed, enumerated(field_of(field.accept[:, :1]), 4, "inside"))
    assert not np.allclose(computed.accepted, expected_counts(field, 4).accepted)


def test_a_drafter_without_a_draft_emits_one_token_a_round() -> None:
    field = dataclasses.replace(
        field_of(np.ones((1, 1, 12)), [2]), available=np.zeros((1, 12), dtype=int)
    )
    computed = expected_counts(field, 4, "clip")
    assert computed.rounds[0] == 12 - 2 - 1
    assert computed.drafted.sum() == computed.accepted.sum() == 0
    assert expected_counts(field, 4, "inside").rounds[0] == 12 - 2 - 4 + 1


def test_more_drafts_than_k_are_cut_to_k() -> None:
    field = random_field(8, heads=2, longest=12)
    plenty = dataclasses.replace(field, available=np.full((1, 12), 9))
    assert_counts(expected_counts(plenty, 3), enumerated(field, 3, "inside"))
    assert_counts(expected_counts(plenty, 3, "clip"), enumerated(field, 3, "clip"))


def test_products_past_every_float_are_held() -> None:
    """200 ratios of e^8 make up for one of e^-8, and for nothing that the drafter never
    proposes.
    """
    accept = np.full((1, 1, 220), np.exp(8.0))
    accept[0, 0, 200:] = 0.0
    accept[0, 0, 200] = np.exp(-8.0)
    field = dataclasses.replace(field_of(accept), joint=True)
    assert (field.survival(np.full((1, 220), 203), 203)[0, 0] == [1.0] * 201 + [0.0, 0.0]).all()
    computed = expected_counts(field, 203)
    assert (computed.total_rounds, computed.acceptance_length) == (1, 202)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("texts", [128, 129, 300])
def test_many_texts_count_as_each_alone(texts: int, end: End) -> None:
    """The walk takes texts in chunks; the first start and the longest text differ between them."""
    rng = np.random.default_rng(texts)
    field = dataclasses.replace(
        joint_field(texts, texts=texts, heads=2, longest=12, most=4),
        starts=rng.integers(0, 6, texts) + 3 * (np.arange(texts) < 128),
        lengths=rng.integers(9, 13, texts),
    )
    together = expected_counts(field, 3, end)
    assert together.prompts == field.prompts
    for row in range(texts):
        alone = expected_counts(field.select(slice(row, row + 1)), 3, end)
        assert alone.prompts == field.prompts[row : row + 1]
        assert_counts(
            together.select([row]),
            tuple(getattr(alone, name) for name in ("rounds", "drafted", "accepted")),
        )
    assert len(set(together.accepted.sum(1).round(9))) > texts / 2
