"""The rounds that samplers are tried on."""

from __future__ import annotations

import math

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from pytest_specdec.lossless.samplers import strategies
from pytest_specdec.lossless.samplers.exact import RoundInput
from pytest_specdec.lossless.samplers.prefix_tree import PrefixTree, Row
from pytest_specdec.lossless.samplers.sampler import Sampler
from pytest_specdec.lossless.samplers.search import drawn_rounds, opposed_round

LOTS = settings(max_examples=1_000, deadline=None, database=None, derandomize=True)


@given(st.integers(2, 6).flatmap(strategies.pairs))
def test_pairs_are_distributions_over_one_vocabulary(pair: tuple[Row, Row]) -> None:
    p, q = pair
    assert len(p) == len(q)
    for distribution in pair:
        assert min(distribution) >= 0
        assert math.isclose(math.fsum(distribution), 1)


@pytest.mark.parametrize(
    "kind",
    [
        lambda p, q: p == q,
        lambda p, q: all(min(p_token, q_token) == 0 for p_token, q_token in zip(p, q, strict=True)),
        lambda p, q: max(q) == 1 and 0 < max(p) < 1,
        lambda p, q: (
            0 < max(abs(p_token - q_token) for p_token, q_token in zip(p, q, strict=True)) < 1e-3
        ),
        lambda p, q: len(set(p)) == 1 and len(set(q)) > 1,
        lambda p, q: (
            sorted(p) != list(p)
            and p.index(max(p)) == q.index(min(q))
            and p.index(min(p)) == q.index(max(q))
        ),
        lambda p, q: 0 in q and all(p_token > 0 for p_token in p),
    ],
    ids=["equal", "disjoint", "one-hot", "near", "ties", "opposed", "masked"],
)
def test_every_kind_of_pair_comes_up(kind: object) -> None:
    assert find(strategies.pairs(4), lambda pair: kind(*pair), settings=LOTS)  # type: ignore[operator]


def test_half_precision_comes_up() -> None:
    """Probabilities that are not fractions of small whole numbers."""
    assert find(
        strategies.distributions(4),
        lambda distribution: (
            any(1000 * chance % 1 > 0 for chance in distribution) and len(set(distribution)) == 4
        ),
        settings=LOTS,
    )


@given(strategies.rounds((2, 6), (1, 5)))
def test_rounds_have_one_vocabulary_and_drafts(drawn: RoundInput) -> None:
    assert 1 <= drawn.k <= 5
    assert drawn.target.vocab_size == drawn.draft.vocab_size in range(2, 7)


@given(strategies.rounds(3, 2, by_position=True))
def test_rounds_by_position(drawn: RoundInput) -> None:
    assert drawn.target.by_position
    assert drawn.target.row((0, 1)) == drawn.target.row((2, 2))


def test_distributions_depend_on_what_stands_before() -> None:
    assert find(strategies.trees(3), lambda tree: tree.row((0,)) != tree.row((1,)), settings=LOTS)


def test_failures_shrink_to_the_smallest_distributions() -> None:
    def wrong(drawn: RoundInput) -> bool:
        return drawn.target.row(()) != drawn.draft.row(())

    smallest = find(strategies.rounds(), wrong, settings=LOTS)
    assert (smallest.k, smallest.target.row(()), smallest.draft.row(())) == (1, (0, 1), (1, 0))


def test_rounds_to_sample_on_are_whole_and_repeat() -> None:
    sampler = Sampler(lambda p, q, drafts: [0])
    first, second = (drawn_rounds(sampler, 4, 3, 5, seed=1) for _ in range(2))
    assert len(first) == 5
    assert all((given.k, given.target.vocab_size) == (3, 4) for given in first)
    assert [given.target.row((1,)) for given in first] == [
        given.target.row((1,)) for given in second
    ]


def test_the_opposed_round_rejects_most() -> None:
    given = opposed_round(4, 3)
    accepted = sum(map(min, given.target.row(()), given.draft.row(())))
    assert accepted < 0.6
    assert isinstance(given.target, PrefixTree)
