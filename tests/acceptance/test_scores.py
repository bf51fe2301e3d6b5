"""Acceptance from log-probabilities, each rule against the enumeration of all that speculative
decoding can do.

The enumeration is written from the papers in exact fractions and shares nothing with the package:
every draft, every number of accepted tokens, every token behind them and every way the target then
ends the text.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pytest_specdec.acceptance.counts import Array
from pytest_specdec.acceptance.scores import Scores
from pytest_specdec.common.errors import MeasurementError, RequestError

Tokens = tuple[int, ...]
Distribution = tuple[Fraction, ...]
Distributions = dict[Tokens, Distribution]
"""The next token's distribution after each prefix."""
Outcomes = Iterator[tuple[int, Distribution]]
"""Accepted drafts, with the weight of each token that may follow them; all weights of a draft sum
to 1.
"""
Verify = Callable[[Distributions, Distributions, Tokens], Outcomes]

INF = float("inf")
LOSSLESS = ("rejection", "sample-match", "block")


def over(above: Fraction, below: Fraction) -> Fraction:
    """A ratio where what it decides has no mass if `below` is zero."""
    return above / below if below else Fraction(1)


def residual(weight: Fraction, p: Distribution, q: Distribution) -> Distribution:
    return tuple(
        max(weight * p_token - q_token, Fraction(0)) for p_token, q_token in zip(p, q, strict=True)
    )


def scaled(distribution: Distribution, total: Fraction) -> Distribution:
    mass = sum(distribution, Fraction(0))
    return tuple(chance * over(total, mass) for chance in distribution)


def rejection(p: Distributions, q: Distributions, draft: Tokens) -> Outcomes:
    """Leviathan et al., arXiv 2211.17192, algorithm 1."""
    reached = Fraction(1)
    for taken, token in enumerate(draft):
        before = draft[:taken]
        accepts = min(Fraction(1), over(p[before][token], q[before][token]))
        yield taken, scaled(residual(Fraction(1), p[before], q[before]), reached * (1 - accepts))
        reached *= accepts
    yield len(draft), scaled(p[draft], reached)


def sample_match(p: Distributions, q: Distributions, draft: Tokens) -> Outcomes:
    """The target draws at each position by itself; drafts are accepted while they are what it
    drew.
    """
    reached = Fraction(1)
    for taken, token in enumerate(draft):
        at_draft = p[draft[:taken]]
        yield (
            taken,
            tuple(
                reached * chance if other != token else Fraction(0)
                for other, chance in enumerate(at_draft)
            ),
        )
        reached *= at_draft[token]
    yield len(draft), scaled(p[draft], reached)


def block(p: Distributions, q: Distributions, draft: Tokens) -> Outcomes:
    """Sun et al., arXiv 2403.10444, algorithm 2: the longest prefix whose own coin accepts it."""
    weights = [Fraction(1)]
    for taken, token in enumerate(draft):
        before = draft[:taken]
        weights.append(min(Fraction(1), weights[-1] * over(p[before][token], q[before][token])))
    coins = [Fraction(1)]
    for taken in range(1, len(draft)):
        before = draft[:taken]
        mass = sum(residual(weights[taken], p[before], q[before]), Fraction(0))
        coins.append(over(mass, mass + 1 - weights[taken]))
    coins.append(weights[-1])
    longer_fail = Fraction(1)
    for taken in range(len(draft), -1, -1):
        before = draft[:taken]
        behind = residual(weights[taken], p[before], q[before]) if taken < len(draft) else p[before]
        yield taken, scaled(behind, longer_fail * coins[taken])
        longer_fail *= 1 - coins[taken]


VERIFY: dict[str, Verify] = {"rejection": rejection, "sample-match": sample_match, "block": block}


def chance_of(distributions: Distributions, text: Tokens, first: int = 0) -> Fraction:
    """Probability of a text's tokens from `first` on, given those before."""
    return math.prod(
        (distributions[text[:at]][text[at]] for at in range(first, len(text))), start=Fraction(1)
    )


@dataclasses.dataclass(frozen=True)
class World:
    """Two prefix-dependent distributions on a small vocabulary, and how many tokens are drafted."""

    vocabulary: int
    k: int
    target: Distributions
    draft: Distributions

    @property
    def texts(self) -> list[Tokens]:
        """Texts of k + 1 tokens that the target can emit."""
        every = itertools.product(range(self.vocabulary), repeat=self.k + 1)
        return [text for text in every if chance_of(self.target, text)]

    def emitted(self, rule: str) -> dict[tuple[int, Tokens], Fraction]:
        """Probability of (drafts accepted by the first round, text of k + 1 tokens), by
        enumeration.
        """
        joint: dict[tuple[int, Tokens], Fraction] = {}
        for draft in itertools.product(range(self.vocabulary), repeat=self.k):
            drawn = chance_of(self.draft, draft)
            for taken, distribution in (
                VERIFY[rule](self.target, self.draft, draft) if drawn else ()
            ):
                for token, weight in enumerate(distribution):
                    for tail in (
                        itertools.product(range(self.vocabulary), repeat=self.k - taken)
                        if weight
                        else ()
                    ):
                        text = (*draft[:taken], token, *tail)
                        chance = drawn * weight * chance_of(self.target, text, taken + 1)
                        joint[taken, text] = joint.get((taken, text), Fraction(0)) + chance
        return joint

    def survival(self, rule: str) -> Array:
        """(texts, k): P(at least i drafts accepted and this text) over P(this text)."""
        joint, rows = self.emitted(rule), []
        for text in self.texts:
            exactly = [joint.get((taken, text), Fraction(0)) for taken in range(self.k + 1)]
            rows.append(
                [
                    float(sum(exactly[least:]) / chance_of(self.target, text))
                    for least in range(1, self.k + 1)
                ]
            )
        return np.array(rows)

    def scores(self) -> Scores:
        """What a model of each distribution would be asked for: the log-probability of every text's
        own tokens.
        """
        texts = self.texts
        target, draft = (
            np.array(
                [
                    [log(distributions[text[:at]][text[at]]) for at in range(self.k + 1)]
                    for text in texts
                ]
            )
            for distributions in (self.target, self.draft)
        )
        return scores(target, draft[:, None])


def log(chance: Fraction) -> float:
    return math.log(chance) if chance else -INF


def scores(target: Array, draft: Array, **changes: object) -> Scores:
    """Scores of texts that start at their first token."""
    texts, longest = target.shape
    default = Scores(
        tuple(f"p{row}" for row in range(texts)),
        ("all",) * texts,
        target,
        draft,
        np.zeros(texts, dtype=np.int64),
        np.full(texts, longest),
    )
    return dataclasses.replace(default, **changes)


def first_survival(of: Scores, rule: str, k: int) -> Array:
    """(texts, k): survival of the round that starts with the text."""
    survival: Array = of.field(rule).survival(np.full(of.target.shape, k), k)[:, 0]
    return survival


def distribution_of(weights: Sequence[int]) -> Distribution:
    return tuple(Fraction(weight, sum(weights)) for weight in weights)


def prefixes(vocabulary: int, k: int) -> Iterator[Tokens]:
    return itertools.chain.from_iterable(
        itertools.product(range(vocabulary), repeat=length) for length in range(k + 1)
    )


def random_world(seed: int, vocabulary: int, k: int) -> World:
    """Random distributions; every third one is sparse, so that p and q miss parts of each other's
    support.
    """
    rng = np.random.default_rng([seed, vocabulary, k])

    def distributions() -> Distributions:
        by_prefix = {}
        for prefix in prefixes(vocabulary, k):
            weights = rng.integers(1, 50, vocabulary)
            if seed % 3 == 0:
                weights[rng.random(vocabulary) < 0.4] = 0
            by_prefix[prefix] = distribution_of(
                [int(weight) for weight in weights] if weights.any() else [1] * vocabulary
            )
        return by_prefix

    return World(vocabulary, k, distributions(), distributions())


@st.composite
def any_world(draw: st.DrawFn) -> World:
    """Small integer weights: zeros, ties, p = q, one-hot and disjoint distributions are all
    likely.
    """
    vocabulary, k = draw(st.integers(2, 3)), draw(st.integers(1, 2))
    weights = st.lists(st.integers(0, 3), min_size=vocabulary, max_size=vocabulary).filter(any)

    def distributions() -> Distributions:
        return {prefix: distribution_of(draw(weights)) for prefix in prefixes(vocabulary, k)}

    target = distributions()
    return World(vocabulary, k, target, target if draw(st.integers(0, 7)) == 0 else distributions())


WORLDS = [(vocabulary, k, seed) for vocabulary in (2, 3) for k in (1, 2, 3) for seed in range(4)]


def assert_enumeration(world: World, rule: str) -> None:
    joint, wanted = (
        world.emitted(rule),
        {text: chance_of(world.target, text) for text in world.texts},
    )
    totals: dict[Tokens, Fraction] = {}
    for (_, text), chance in joint.items():
        totals[text] = totals.get(text, Fraction(0)) + chance
    # In fractions, so equal and not close: otherwise the enumeration would prove nothing.
    assert {text: chance for text, chance in totals.items() if chance} == wanted
    assert_allclose(
        first_survival(world.scores(), rule, world.k), world.survival(rule), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("rule", LOSSLESS)
@pytest.mark.parametrize(("vocabulary", "k", "seed"), WORLDS)
def test_survival_given_a_text_is_the_enumerations(
    vocabulary: int, k: int, seed: int, rule: str
) -> None:
    assert_enumeration(random_world(seed, vocabulary, k), rule)


HALF, SURE = distribution_of([1, 1]), distribution_of([1, 0])


@given(any_world(), st.sampled_from(LOSSLESS))
@example(
    World(2, 1, {(): HALF, (0,): HALF, (1,): HALF}, {(): SURE, (0,): SURE, (1,): SURE}), "block"
)
@PROPERTY
def test_survival_of_any_distributions_is_the_enumerations(world: World, rule: str) -> None:
    assert_enumeration(world, rule)


def test_the_enumeration_distinguishes_the_rules() -> None:
    """Else the equalities above could hold for the wrong reason."""
    world = random_world(1, 3, 3)
    for rule, other in itertools.permutations(LOSSLESS, 2):
        assert np.abs(first_survival(world.scores(), rule, 3) - world.survival(other)).max() > 0.05


@pytest.mark.parametrize("k", [1, 2, 3])
def test_greedy_is_the_enumeration_where_both_distributions_are_certain(k: int) -> None:
    """At temperature 0 the target emits one text, and the drafter one draft."""
    for text in itertools.product(range(2), repeat=k + 1):
        for draft in itertools.product(range(2), repeat=k):
            target, drafter = (
                {
                    prefix: distribution_of([0, 1] if (*row, 0)[len(prefix)] else [1, 0])
                    for prefix in prefixes(2, k)
                }
                for row in (text, draft)
            )
            world = World(2, k, target, drafter)
            assert world.texts == [text]
            assert (
                first_survival(world.scores(), "greedy", k) == world.survival("sample-match")
            ).all()


ratios = st.lists(st.lists(st.floats(-6, 0), min_size=6, max_size=6), min_size=2, max_size=2)


@given(ratios, st.integers(1, 6))
@PROPERTY
def test_block_never_survives_less_than_rejection(logs: list[list[float]], k: int) -> None:
    of_pair = scores(np.array(logs[:1]), np.array([logs[1:]]))
    kept, alone = (
        of_pair.field(rule).survival(np.full((1, 6), k), k) for rule in ("block", "rejection")
    )
    assert (kept >= alone - 1e-12).all()


def test_block_survives_more_where_a_later_position_makes_up_for_an_earlier() -> None:
    """q/p of 4 and then 1/2: rejection loses half at the second position, block has twice as much
    in hand.
    """
    of_pair = scores(np.log([[0.2, 0.8, 1.0]]), np.log([[[0.8, 0.4, 1.0]]]))
    assert_allclose(first_survival(of_pair, "rejection", 2), [[1.0, 0.5]])
    assert_allclose(first_survival(of_pair, "block", 2), [[1.0, 1.0]])


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("rejection", [1.0, 0.5, 1.0, 0.25, 0.0]),
        ("sample-match", [0.8, 0.4, 0.5, 0.25, 0.0]),
        ("block", [4.0, 0.5, 1.0, 0.25, 0.0]),
    ],
)
def test_acceptance_at_each_position(rule: str, wanted: list[float]) -> None:
    target = np.log([[0.2, 0.8, 0.5, 1.0, 0.3]])
    draft = np.append(np.log([0.8, 0.4, 0.5, 0.25]), -INF)[None, None]
    field = scores(target, draft).field(rule)
    assert_allclose(field.accept, [[wanted]])
    assert field.joint == (rule == "block")


def test_block_is_the_running_minimum_of_products() -> None:
    draft = np.log([0.8, 0.2, 0.9, 0.9])
    survival = first_survival(scores(np.log([[0.4, 0.5, 0.3, 0.6]]), draft[None, None]), "block", 4)
    products = np.cumprod([2.0, 0.4, 3.0, 1.5])
    assert_allclose(survival[0], np.minimum.accumulate(np.minimum(products, 1.0)))
    assert_allclose(survival[0], [1.0, 0.8, 0.8, 0.8])


def test_greedy_accepts_the_arg_max_and_nothing_else() -> None:
    field = scores(np.zeros((1, 4)), np.array([[[0.0, -INF, 0.0, -INF]]])).field("greedy")
    assert (field.accept == [[[1, 0, 1, 0]]]).all()
    assert not field.joint


@pytest.mark.parametrize("rule", [*LOSSLESS, "greedy"])
def test_what_the_drafter_cannot_propose_is_never_accepted(rule: str) -> None:
    """Also where the target's score is the padding's zero or the same minus infinity."""
    target = np.array([[-0.5, 0.0, -INF, -700.0]])
    with np.errstate(all="raise"):
        field = scores(target, np.full((1, 2, 4), -INF)).field(rule)
    assert (field.accept == 0).all()


@pytest.mark.parametrize("rule", LOSSLESS)
def test_a_text_that_the_target_hardly_emits_leaves_finite_survivals(rule: str) -> None:
    """float16 logits can lie hundreds apart; products of their ratios overflow."""
    of_pair = scores(np.full((1, 9), -3000.0), np.full((1, 1, 9), -0.25))
    survival = first_survival(of_pair, rule, 8)
    assert np.isfinite(survival).all()
    assert_allclose(
        survival[0], np.exp(-0.25) ** np.arange(1, 9) if rule == "sample-match" else np.ones(8)
    )


@pytest.mark.parametrize("rule", [*LOSSLESS, "greedy"])
def test_single_precision_is_widened_before_anything_is_computed(rule: str) -> None:
    """So that what decides are the models' last bits and not ours."""
    target, draft = (
        np.log([[0.3, 0.7]]).astype(np.float32),
        np.log([[[0.6, 0.1]]]).astype(np.float32),
    )
    accept = scores(target, draft).field(rule).accept
    assert accept.dtype == np.float64
    assert (accept == scores(target.astype(float), draft.astype(float)).field(rule).accept).all()


def test_each_head_has_its_own_row_and_first_heads_leaves_the_others_unused() -> None:
    rng = np.random.default_rng(4)
    of_heads = scores(np.log(rng.random((2, 7))), np.log(rng.random((2, 3, 7))))
    assert_allclose(of_heads.first_heads(2).draft, of_heads.draft[:, :2])
    for rule in LOSSLESS:
        whole = of_heads.field(rule)
        for heads in (1, 2, 3):
            few = of_heads.first_heads(heads).field(rule)
            assert (few.accept == whole.accept[:, :heads]).all()
            assert (few.accept == whole.first_heads(heads).accept).all()
            assert few.joint == whole.joint


def test_texts_starts_lengths_and_available_drafts_are_handed_on() -> None:
    available = np.array([[0, 3, 1], [2, 2, 0]])
    starts, lengths = np.array([1, 2]), np.array([3, 2])
    target = np.log(np.full((2, 3), 0.5))
    of_texts = scores(
        target,
        target[:, None],
        available=available,
        starts=starts,
        lengths=lengths,
        categories=("code", "prose"),
    )
    for rule in (*LOSSLESS, "greedy"):
        field = of_texts.first_heads(1).field(rule)
        assert (field.prompts, field.categories) == (of_texts.prompts, ("code", "prose"))
        assert field.available is available
        assert (field.starts == starts).all()
        assert (field.lengths == lengths).all()
    assert scores(target, target[:, None]).field("block").available is None


def test_a_lossy_rule_has_nothing_to_replay() -> None:
    of_pair = scores(np.zeros((1, 2)), np.zeros((1, 1, 2)))
    with pytest.raises(
        RequestError, match=r"rule 'typical' is lossy: its texts do not follow .*; decode it"
    ):
        of_pair.field("typical")


@pytest.mark.parametrize("rule", LOSSLESS)
def test_a_token_without_probability_is_refused_and_not_accepted_for_certain(rule: str) -> None:
    of_pair = scores(np.array([[-0.5, -INF]]), np.full((1, 1, 2), -0.5))
    with pytest.raises(
        MeasurementError,
        match=r"token at position 1 of text p0 probability 0, so .* not its own; replay",
    ):
        of_pair.field(rule)
