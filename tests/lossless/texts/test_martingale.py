"""The test martingale: bets of expectation one, uniform transforms, and a bound that holds at any
time.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from pytest_specdec.lossless.texts.martingale import (
    CELLS,
    NARROW,
    NARROWER,
    RANKS,
    SERIAL,
    SHARES,
    Draws,
    TextEvidence,
    evidence,
    mixed_bet,
    narrow_bet,
    rank_bet,
    serial_bet,
    uniformity,
)
from pytest_specdec.lossless.texts.token_scores import (
    ACCEPTED,
    DRAFTED,
    EARLY,
    END_ODDS,
    END_SHARES,
    EXPONENTS,
    FLAT,
    LATE,
    RESIDUAL,
    TokenDistributions,
)

VOCABULARY = 50
RUNS, TOKENS = 2000, 200
_BLOCK = 250


def random_distributions(
    rng: np.random.Generator, count: int, vocabulary: int = VOCABULARY, top: int | None = None
) -> torch.Tensor:
    """Logarithms of distributions from nearly flat to nearly certain; with `top` all but so many
    tokens have no mass.
    """
    logits = rng.normal(size=(count, vocabulary)) * rng.uniform(0.2, 5, (count, 1))
    if top is not None:
        logits[logits < np.sort(logits, -1)[:, -top, None]] = -np.inf
    return torch.log_softmax(torch.from_numpy(logits), -1)


def draw(distributions: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return (distributions + torch.from_numpy(rng.gumbel(size=tuple(distributions.shape)))).argmax(
        -1
    )


def reshaped(draws: Draws, runs: int) -> Draws:
    """Draws (runs * tokens,) as (runs, tokens)."""
    changed = {
        name: getattr(draws, name).reshape(runs, -1)
        for name in ("surprisal", "entropy", "variance", "below")
    }
    tilted = {name: [bet.reshape(runs, -1) for bet in bets] for name, bets in draws.tilted.items()}
    return Draws(
        **changed,
        tilted=tilted,
        mixed={name: odds.reshape(runs, -1) for name, odds in draws.mixed.items()},
    )


@functools.cache
def lossless_runs() -> tuple[Draws, np.ndarray, TextEvidence]:
    """Runs of a lossless engine, target and drafter distributions new at each token; half of the
    distributions are filtered.
    """
    rng = np.random.default_rng(3)
    totals, families, parts, uniforms = [], [], [], []
    for block in range(RUNS // _BLOCK):
        top = None if block % 2 else 8
        p, q = (random_distributions(rng, _BLOCK * TOKENS, top=top) for _ in range(2))
        q = torch.logaddexp(p, q) - np.log(2)
        draws = reshaped(TokenDistributions(p, q).draws(draw(p, rng)), _BLOCK)
        uniforms.append(rng.random((_BLOCK, TOKENS)))
        seen = evidence(draws, uniforms[-1])
        parts.append(draws)
        totals.append(seen.total)
        families.append(seen.families)
    joined = Draws.joined(parts, np.arange(RUNS))
    each = {name: np.concatenate([values[name] for values in families]) for name in families[0]}
    return joined, np.concatenate(uniforms), TextEvidence(np.concatenate(totals), each)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_lossless_runs_seldom_ever_reach_the_bound_wherever_they_stop(alpha: float) -> None:
    """Ville: of 2,000 runs watched after every token, at most a share alpha ever reaches 1 /
    alpha.
    """
    _, _, seen = lossless_runs()
    ever = int((seen.reached(alpha) > 0).sum())
    assert ever <= alpha * RUNS
    assert ever > 0, "the bound would be too far away to be of use"


def test_every_family_of_bets_keeps_the_bound_by_itself() -> None:
    _, _, seen = lossless_runs()
    assert len(seen.families) == len(EXPONENTS) + 4 + 3
    for name, path in seen.families.items():
        assert (path.max(-1) >= np.log(20)).mean() <= 0.05, name


def test_standardised_surprisal_of_lossless_runs_is_standard_normal() -> None:
    draws, _, _ = lossless_runs()
    z = draws.z()
    assert stats.kstest(z, "norm").pvalue > 0.01
    assert abs(z.mean()) < 4 / np.sqrt(RUNS)


def test_transforms_of_lossless_runs_are_uniform_and_independent() -> None:
    draws, uniforms, _ = lossless_runs()
    transforms = draws.transforms(uniforms)
    assert uniformity(transforms.ravel()) > 0.01
    later, before = transforms[:, 1:].ravel(), transforms[:, :-1].ravel()
    assert abs(np.corrcoef(later, before)[0, 1]) < 4 / np.sqrt(later.size)


@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.booleans(), st.booleans())
@PROPERTY
def test_every_bet_on_a_distribution_has_expectation_one(
    seed: int, vocabulary: int, filters: bool, same: bool
) -> None:
    """Summed over all tokens; less where the drafter has mass outside the target's support."""
    rng = np.random.default_rng(seed)
    p = random_distributions(rng, 1, vocabulary, top=vocabulary - 1 if filters else None)
    q = p if same else random_distributions(rng, 1, vocabulary)
    support = np.flatnonzero(np.isfinite(p[0].numpy()))
    tokens = torch.from_numpy(support)
    ends = [int(rng.choice(support)), vocabulary + 3]
    draws = TokenDistributions(p.expand(len(support), -1), q.expand(len(support), -1), ends).draws(
        tokens
    )
    mass = np.exp(-draws.surprisal)
    assert {EARLY, LATE} < set(draws.tilted)
    assert mass.sum() == pytest.approx(1)
    for name, bets in draws.tilted.items():
        for bet in bets:
            value = mass @ np.exp(bet)
            if name in (EARLY, LATE) and len(support) == 1:
                assert value < 1 + 1e-6, name  # the bet loses what it puts on going on
            else:
                assert value == pytest.approx(1), name
    for name, odds in draws.mixed.items():
        outside = 0.0 if name != DRAFTED else 1 - float(q[0, tokens].exp().sum())
        assert mass @ np.exp(odds) == pytest.approx(1 - outside), name
        for share in SHARES:
            assert mass @ np.exp(mixed_bet(odds, share)) == pytest.approx(1 - share * outside), name


def test_bets_on_what_a_wrong_rule_emits_are_its_distribution() -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.6, 0.2])
    tokens = torch.arange(3)
    distributions = TokenDistributions(
        *(torch.from_numpy(np.log(distribution)).expand(3, -1) for distribution in (p, q))
    )
    mixed = distributions.draws(tokens).mixed
    overlap = np.minimum(p, q).sum()
    assert p * np.exp(mixed[FLAT]) == pytest.approx(np.full(3, 1 / 3))
    assert p * np.exp(mixed[DRAFTED]) == pytest.approx(q)
    assert p * np.exp(mixed[ACCEPTED]) == pytest.approx(np.minimum(p, q) + (1 - overlap) * p)
    assert p * np.exp(mixed[RESIDUAL]) == pytest.approx([1, 0, 0])


def test_bets_on_ends_move_the_odds_of_ending_alone() -> None:
    """Two tokens end a text; the others keep their shares of what is left."""
    p, ends = np.array([0.1, 0.2, 0.3, 0.4]), [0, 2]
    tokens = torch.arange(4)
    tilted = (
        TokenDistributions(torch.from_numpy(np.log(p)).expand(4, -1), ends=ends)
        .draws(tokens)
        .tilted
    )
    for name, all_odds in END_ODDS.items():
        for odds, bet in zip(all_odds, tilted[name], strict=False):
            r = p * np.exp(bet)
            assert r.sum() == pytest.approx(1)
            assert (r[0] + r[2]) / (r[1] + r[3]) == pytest.approx(odds * 0.4 / 0.6)
            assert r[0] / r[2] == pytest.approx(1 / 3)
            assert r[1] / r[3] == pytest.approx(1 / 2)


def test_bets_on_ends_whatever_p_says_and_on_ends_passed_over_are_mixtures() -> None:
    p, ends = np.array([0.1, 0.2, 0.3, 0.4]), [0, 2]
    tokens, hazard = torch.arange(4), 0.4
    tilted = (
        TokenDistributions(torch.from_numpy(np.log(p)).expand(4, -1), ends=ends)
        .draws(tokens)
        .tilted
    )
    at_ends = np.isin(np.arange(4), ends)
    others = {EARLY: p * at_ends / hazard, LATE: p * ~at_ends / (1 - hazard)}
    for name, shares in END_SHARES.items():
        for share, bet in zip(shares, tilted[name][-len(shares) :], strict=True):
            # Of the ends that are passed over, another token is drawn in their place.
            weight = share if name == EARLY else share * hazard
            kept = (1 - share) * p if name == EARLY else p * np.where(at_ends, 1 - share, 1.0)
            expected = kept + weight * others[name]
            assert p * np.exp(bet) == pytest.approx(expected)


def test_without_a_token_that_ends_texts_nothing_is_bet_on_ends() -> None:
    p = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64).log().expand(3, -1)
    assert EARLY not in TokenDistributions(p, ends=[3]).draws(torch.arange(3)).tilted


def test_transforms_run_through_the_tokens_from_the_likeliest_on() -> None:
    """Of equally likely tokens the one with the smaller id comes first."""
    p = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64).log().expand(3, -1)
    assert TokenDistributions(p).draws(torch.arange(3)).below == pytest.approx([0.5, 0, 0.75])


@pytest.mark.parametrize("cells", CELLS)
def test_counting_bets_have_expectation_one_given_any_past(cells: int) -> None:
    past = np.random.default_rng(cells).random(37) ** 2
    middles = (np.arange(cells) + 0.5) / cells
    for bet in (rank_bet, serial_bet):
        next_ones = [np.exp(bet(np.append(past, middle), cells)[-1]) for middle in middles]
        assert np.mean(next_ones) == pytest.approx(1)


@pytest.mark.parametrize("mass", NARROWER)
def test_bets_on_a_narrower_distribution_have_expectation_one(mass: float) -> None:
    below, above = np.exp(narrow_bet(np.array([mass / 2, (1 + mass) / 2]), mass))
    assert mass * below + (1 - mass) * above == pytest.approx(1)


def test_the_counting_bet_is_the_mixture_over_all_distributions_of_the_cells() -> None:
    """The product is the Dirichlet(1/2) mixture's likelihood ratio, in closed form."""
    transforms = np.random.default_rng(5).random(50) ** 3
    counts = np.bincount((transforms * 4).astype(int), minlength=4)
    closed = (
        special.gammaln(2)
        - special.gammaln(52)
        + (special.gammaln(counts + 0.5) - special.gammaln(0.5)).sum()
    )
    assert rank_bet(transforms, 4).sum() == pytest.approx(closed + 50 * np.log(4))


def uniform_draws(count: int) -> Draws:
    """Of distributions that are flat over two tokens: only the transforms can show anything."""
    ones = np.ones(count)
    return Draws(np.log(2) * ones, np.log(2) * ones, 0 * ones, np.zeros(count), {}, {})


def suspect_of(transforms: np.ndarray) -> str:
    """The family with the most evidence at the end where transforms come as given."""
    draws = uniform_draws(len(transforms))
    laid = Draws(draws.surprisal * 0, draws.entropy, draws.variance, draws.below, {}, {})
    seen = evidence(laid, transforms)
    assert seen.highest > np.log(1e6)
    return seen.suspect(-1)


def test_what_the_transforms_look_like_names_the_suspect() -> None:
    rng = np.random.default_rng(6)
    fresh = rng.random(3000)
    assert suspect_of(0.97 * fresh) == NARROW
    assert suspect_of(rng.beta(2, 2, 3000)) == RANKS
    assert suspect_of(np.repeat(fresh[::2], 2)) == SERIAL, "every random number used twice"


def test_certain_distributions_say_nothing() -> None:
    draws = TokenDistributions(
        torch.tensor([[0.0, -torch.inf]], dtype=torch.float64).expand(9, -1)
    ).draws(torch.zeros(9, dtype=torch.long))
    assert draws.z() == 0
    seen = evidence(draws, np.random.default_rng(0).random(9))
    assert seen.highest < np.log(20)
    assert seen.reached(0.05) == 0


def test_evidence_is_dated_at_its_first_crossing() -> None:
    total = np.log([[1, 30, 2, 200], [1, 1, 1, 1]])
    seen = TextEvidence(total, {})
    assert seen.reached(0.05).tolist() == [2, 0]
    assert seen.reached(0.01).tolist() == [4, 0]
    assert np.exp(seen.highest) == pytest.approx([200, 1])


def test_evidence_is_reported_as_a_finite_number() -> None:
    assert TextEvidence(np.log([1, 30, 2]), {}).highest_value == pytest.approx(30)
    assert TextEvidence(np.array([0.0, 5000.0]), {}).highest_value == pytest.approx(np.exp(700))


OFF_BY_FIVE_PERCENT = {
    "right": (lambda h: h, ""),
    "5 % of the ends are passed over": (lambda h: 0.95 * h, LATE),
    "one token in 20 ends a text whatever p says": (lambda h: h + 0.05 * (1 - h), EARLY),
    "odds of ending 5 % too high": (lambda h: 1.05 * h / (1 + 0.05 * h), EARLY),
    "odds of ending 5 % too low": (lambda h: 0.95 * h / (1 - 0.05 * h), LATE),
}


@pytest.mark.parametrize("engine", OFF_BY_FIVE_PERCENT)
def test_ends_that_are_five_percent_off_are_found_and_right_ones_are_not(engine: str) -> None:
    """Tokens are other ones (0) or EOS (1), with hazards from small to nearly certain."""
    hazard_of, name = OFF_BY_FIVE_PERCENT[engine]
    rng = np.random.default_rng(11)
    hazard = rng.beta(0.3, 0.7, 120_000).clip(1e-6, 1 - 1e-6)
    tokens = torch.from_numpy((rng.random(len(hazard)) < hazard_of(hazard)).astype(np.int64))
    log_p = torch.from_numpy(np.log(np.stack([1 - hazard, hazard], -1)))
    found = evidence(TokenDistributions(log_p, ends=[1]).draws(tokens), rng.random(len(hazard)))
    assert (found.highest_value >= 1000) == bool(name)
    if name:
        (other,) = {EARLY, LATE} - {name}
        assert found.families[name][-1] > max(np.log(1000), found.families[other][-1])
