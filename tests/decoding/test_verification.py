"""Verification rules on batches so large that the distribution of what they emit shows.

The distributions p and q of an instance do not depend on the prefix, so the exact distribution of
any number of emitted tokens is a product, and how many drafts each rule should accept can be
written down.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pytest_specdec.cases.case import LOSSY_RULES, RULES
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.verification import Rule, rule_named

ROWS = 100_000
P_FLOOR = 1e-6
LOSSLESS = ("rejection", "sample-match", "block")
"""Rules that are lossless at every temperature; `greedy` is at temperature 0."""
PROPERTY = settings(deadline=None, max_examples=100)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclasses.dataclass(frozen=True)
class Instance:
    """Distributions p (k + 1, V) and q (k, V) of a round."""

    p: torch.Tensor
    q: torch.Tensor

    @property
    def k(self) -> int:
        return len(self.q)

    @property
    def vocabulary(self) -> int:
        return self.p.shape[1]

    def drafts(self, rows: int, seed: int) -> torch.Tensor:
        """(rows, k), drawn from q by torch's own sampler."""
        return torch.multinomial(
            self.q, rows, replacement=True, generator=seeded(seed)
        ).T.contiguous()

    def batch(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The distributions as rules see them: for each row, q closed with a distribution without
        mass.
        """
        closed = torch.cat([self.q, torch.zeros(1, self.vocabulary)])
        return self.p.expand(rows, -1, -1).contiguous(), closed.expand(rows, -1, -1).contiguous()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a batch of rounds accepted and emitted."""

    accepted: torch.Tensor
    emitted: torch.Tensor
    """(rows, k + 1): accepted drafts, the token after them, then tokens of the target, which go on
    from there.
    """


def play(
    rule: str,
    instance: Instance,
    seed: int,
    *,
    drafted: torch.Tensor | None = None,
    rows: int = ROWS,
) -> Outcome:
    """Verify a batch; `drafted` (rows,) says how many drafts each row has, all k by default."""
    target, draft = instance.batch(rows)
    tokens = instance.drafts(rows, seed)
    if drafted is not None:
        behind = torch.arange(instance.k + 1) >= drafted[:, None]
        draft = draft.masked_fill(behind[..., None], 0.0)
        # Behind a row's last draft stands anything, the likeliest token say.
        tokens = torch.where(behind[:, :-1], instance.p[:-1].argmax(-1), tokens)
    accepted, following = rule_named(rule).verify(target, draft, tokens, seeded(seed + 1))
    fill = torch.multinomial(instance.p, rows, replacement=True, generator=seeded(seed + 2)).T
    steps = torch.arange(instance.k + 1)
    emitted = torch.where(steps < accepted[:, None], torch.cat([tokens, tokens[:, :1]], 1), fill)
    return Outcome(accepted, emitted.scatter(1, accepted[:, None], following[:, None]))


def random_distributions(kind: str, vocabulary: int, k: int, seed: int) -> Instance:
    generator = seeded(seed)
    p = torch.softmax(1.5 * torch.randn(k + 1, vocabulary, generator=generator), -1)
    q = torch.softmax(1.5 * torch.randn(k, vocabulary, generator=generator), -1)
    if kind == "zeros":
        p, q = thinned(p, generator), thinned(q, generator)
    elif kind == "disjoint":  # position 0 and 2 share no token at all
        p[::2, : vocabulary // 2], q[::2, vocabulary // 2 :] = 0.0, 0.0
    elif kind == "opposed":
        q = p[:-1].sort(-1, descending=True).values.gather(-1, p[:-1].argsort(-1).argsort(-1))
    elif kind == "equal":
        q = p[:-1].clone()
    elif kind == "near":
        q = p[:-1] * (1 + 0.02 * torch.randn(q.shape, generator=generator))
    elif kind == "certain drafts":
        q = torch.nn.functional.one_hot(p[:-1].argmax(-1), vocabulary).float()
    elif kind == "certain target":
        p = torch.nn.functional.one_hot(p.argmax(-1), vocabulary).float()
    return Instance(p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True))


def thinned(distributions: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Some tokens of each distribution without mass, the likeliest never."""
    gone = torch.rand(distributions.shape, generator=generator) < 0.4
    gone.scatter_(-1, distributions.argmax(-1, keepdim=True), False)
    return distributions.masked_fill(gone, 0.0)


KINDS = ("any", "zeros", "disjoint", "opposed", "equal", "near", "certain drafts", "certain target")
INSTANCES = {
    f"{kind}, V={vocabulary}, k={k}": random_distributions(kind, vocabulary, k, seed)
    for seed, (kind, (vocabulary, k)) in enumerate(
        itertools.product(KINDS, [(3, 3), (4, 1), (5, 2)])
    )
}
all_instances = pytest.mark.parametrize("instance", INSTANCES.values(), ids=INSTANCES.keys())


def goodness(outcomes: np.ndarray, chances: np.ndarray) -> float:
    """p-value of Pearson's test, rare outcomes taken together; 0 where the impossible happened."""
    counts = np.bincount(outcomes, minlength=len(chances))
    if counts[chances == 0].any():
        return 0.0
    expected = chances / chances.sum() * counts.sum()
    rare = expected < 10
    counts, expected = (
        np.append(counts[~rare], counts[rare].sum()),
        np.append(expected[~rare], expected[rare].sum()),
    )
    counts, expected = counts[expected > 0], expected[expected > 0]
    return 1.0 if len(counts) == 1 else float(stats.chisquare(counts, expected).pvalue)


def distribution_of_first(p: torch.Tensor, tokens: int) -> np.ndarray:
    """(V ** tokens,): the target's joint distribution of the first few tokens."""
    joint = np.ones(1)
    for row in p[:tokens].double().numpy():
        joint = np.outer(joint, row).ravel()
    return joint


def misfit(outcome: Outcome, p: torch.Tensor) -> float:
    """The smallest p-value among the distributions of the first token, the first two, and so on."""
    vocabulary, worst = p.shape[1], 1.0
    numbers = np.zeros(len(outcome.emitted), dtype=np.int64)
    for count in range(1, len(p) + 1):
        numbers = numbers * vocabulary + outcome.emitted[:, count - 1].numpy()
        worst = min(worst, goodness(numbers, distribution_of_first(p, count)))
    return worst


@pytest.mark.parametrize("rule", LOSSLESS)
@all_instances
def test_lossless_rules_emit_the_targets_distribution(rule: str, instance: Instance) -> None:
    assert rule_named(rule).lossless
    assert misfit(play(rule, instance, 10), instance.p) > P_FLOOR


@pytest.mark.parametrize("rule", ["typical", "greedy"])
def test_lossy_rules_are_seen_to_change_the_distribution(rule: str) -> None:
    """The comparison above can fail; greedy verification goes with temperature 0 only."""
    assert misfit(play(rule, INSTANCES["any, V=5, k=2"], 10), INSTANCES["any, V=5, k=2"].p) == 0.0


def test_a_draft_from_another_distribution_than_reported_changes_the_distribution() -> None:
    """The q contract broken by 5 %: rejection is lossless for the q that drafts were drawn from,
    and no other.
    """
    instance = INSTANCES["any, V=4, k=1"]
    reported = Instance(instance.p, torch.softmax(instance.q.log() / 1.05, -1))
    target, draft = reported.batch(ROWS)
    tokens = instance.drafts(ROWS, 10)
    accepted, following = rule_named("rejection").verify(target, draft, tokens, seeded(11))
    first = torch.where(accepted > 0, tokens[:, 0], following).numpy()
    assert goodness(first, distribution_of_first(instance.p, 1)) < P_FLOOR


def test_only_the_listed_rules_are_lossy() -> None:
    assert (
        [name for name in RULES if not rule_named(name).lossless]
        == list(LOSSY_RULES)
        == ["typical"]
    )


def of_products(
    chance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Callable[[Instance], list[float]]:
    """Survivals where positions are accepted independently: products of each position's own
    chance.
    """
    return lambda instance: torch.cumprod(
        chance(instance.p[:-1], instance.q).sum(-1).double(), 0
    ).tolist()


def of_blocks(instance: Instance) -> list[float]:
    """P(at least i accepted) is the mean over drafts of w_i = min(1, w_{i-1} p/q)."""
    survivals = [0.0] * instance.k
    for drafts in itertools.product(range(instance.vocabulary), repeat=instance.k):
        weight, chance = 1.0, 1.0
        for step, token in enumerate(drafts):
            p, q = float(instance.p[step, token]), float(instance.q[step, token])
            chance *= q
            weight = min(1.0, weight * p / q) if q else 0.0
            rest = instance.vocabulary ** (instance.k - step - 1)  # drafts that share this prefix
            survivals[step] += chance * weight / rest
    return survivals


def of_typical(instance: Instance) -> list[float]:
    """With the thresholds that Medusa's own code has by default."""
    p, q = instance.p[:-1].double(), instance.q.double()
    floor = np.minimum(0.09, 0.3 * np.exp(-stats.entropy(p.numpy(), axis=1)[:, None]))
    return torch.cumprod((q * (p > torch.from_numpy(floor))).sum(-1), 0).tolist()


def of_greedy(instance: Instance) -> list[float]:
    return torch.cumprod(
        instance.q.double().gather(1, instance.p[:-1].argmax(-1, keepdim=True))[:, 0], 0
    ).tolist()


SURVIVALS: dict[str, Callable[[Instance], list[float]]] = {
    "rejection": of_products(torch.minimum),
    "sample-match": of_products(torch.mul),
    "block": of_blocks,
    "typical": of_typical,
    "greedy": of_greedy,
}


@pytest.mark.parametrize("rule", RULES)
@all_instances
def test_as_many_drafts_are_accepted_as_theory_says(rule: str, instance: Instance) -> None:
    survival = np.clip([1.0, *SURVIVALS[rule](instance), 0.0], 0.0, 1.0)
    chances = survival[:-1] - survival[1:]
    chances[chances < 1e-6] = 0.0  # float32 rounding of distributions that sum to 1
    accepted = play(rule, instance, 20).accepted.numpy()
    # What rounding alone makes possible may happen, once in a while.
    impossible = np.isin(accepted, np.flatnonzero(chances == 0))
    assert impossible.sum() <= 2
    assert goodness(accepted[~impossible], chances) > P_FLOOR


def test_block_verification_accepts_more_than_rejection_and_both_more_than_sample_match() -> None:
    for instance in INSTANCES.values():
        block, rejection, match = (
            sum(SURVIVALS[rule](instance)) for rule in ("block", "rejection", "sample-match")
        )
        assert block >= rejection - 1e-6
        assert rejection >= match - 1e-6
    instance = INSTANCES["any, V=3, k=3"]
    block, rejection, match = (
        float(play(rule, instance, 30).accepted.double().mean())
        for rule in ("block", "rejection", "sample-match")
    )
    assert block > rejection + 0.01 > match + 0.02


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "name", ["any, V=3, k=3", "zeros, V=5, k=2", "equal, V=4, k=1", "opposed, V=3, k=3"]
)
def test_rows_with_fewer_drafts_end_with_a_bonus_token_of_the_target(rule: str, name: str) -> None:
    instance = INSTANCES[name]
    drafted = torch.arange(ROWS) % (instance.k + 1)
    outcome = play(rule, instance, 40, drafted=drafted)
    assert (outcome.accepted <= drafted).all()
    assert (outcome.accepted == drafted).any()
    for count in range(instance.k + 1):
        rows = drafted == count
        if rule in LOSSLESS:
            assert (
                misfit(Outcome(outcome.accepted[rows], outcome.emitted[rows]), instance.p) > P_FLOOR
            )
        bonus = outcome.emitted[rows & (outcome.accepted == count), count]
        if rule == "greedy":
            assert (bonus == instance.p[count].argmax()).all()
        else:
            assert goodness(bonus.numpy(), instance.p[count].double().numpy()) > P_FLOOR


@pytest.mark.parametrize("rule", LOSSLESS)
def test_rows_of_one_batch_keep_their_own_distributions(rule: str) -> None:
    first_instance, second_instance = INSTANCES["any, V=5, k=2"], INSTANCES["opposed, V=5, k=2"]
    mine, theirs = first_instance.batch(ROWS), second_instance.batch(ROWS)
    target, draft = (
        torch.stack([a, b], 1).flatten(0, 1) for a, b in zip(mine, theirs, strict=True)
    )
    tokens = torch.stack(
        [first_instance.drafts(ROWS, 50), second_instance.drafts(ROWS, 51)], 1
    ).flatten(0, 1)
    accepted, following = rule_named(rule).verify(target, draft, tokens, seeded(52))
    first = torch.where(accepted > 0, tokens[:, 0], following)
    assert goodness(first[::2].numpy(), distribution_of_first(first_instance.p, 1)) > P_FLOOR
    assert goodness(first[1::2].numpy(), distribution_of_first(second_instance.p, 1)) > P_FLOOR


@st.composite
def certain_targets(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rounds at temperature 0: the target's token at each position, any q, and drafts that q may
    have drawn.
    """
    rows, k, vocabulary = draw(st.integers(1, 5)), draw(st.integers(1, 6)), draw(st.integers(2, 9))
    generator = seeded(draw(st.integers(0, 1 << 32)))
    choices = torch.randint(0, vocabulary, (rows, k + 1), generator=generator)
    tokens = torch.randint(0, vocabulary, (rows, k), generator=generator)
    tokens = torch.where(torch.rand(rows, k, generator=generator) < 0.7, choices[:, :-1], tokens)
    q = torch.nn.functional.one_hot(tokens, vocabulary).float()
    if draw(st.booleans()):
        q = 0.5 * q + 0.5 * torch.softmax(3 * torch.randn(q.shape, generator=generator), -1)
    return choices, torch.cat([q, torch.zeros(rows, 1, vocabulary)], 1), tokens


@pytest.mark.parametrize("rule", RULES)
@PROPERTY
@given(certain_targets(), st.integers(0, 1 << 32))
def test_at_temperature_zero_every_rule_accepts_the_matching_prefix_and_emits_the_argmax(
    rule: str, rounds: tuple[torch.Tensor, torch.Tensor, torch.Tensor], seed: int
) -> None:
    choices, draft, tokens = rounds
    target = torch.nn.functional.one_hot(choices, draft.shape[-1]).float()
    accepted, following = rule_named(rule).verify(target, draft, tokens, seeded(seed))
    matching = (choices[:, :-1] == tokens).long().cumprod(1).sum(1)
    assert accepted.tolist() == matching.tolist()
    assert following.tolist() == choices.gather(1, matching[:, None])[:, 0].tolist()


@pytest.mark.parametrize("rule", RULES)
@PROPERTY
@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 1 << 32), st.data())
def test_a_draft_that_was_never_proposed_is_never_accepted(
    rule: str, vocabulary: int, k: int, seed: int, data: st.DataObject
) -> None:
    """Even the target's own favourite, where q gives it no mass."""
    instance = random_distributions("any", vocabulary, k, seed)
    position = data.draw(st.integers(0, k - 1))
    target, draft = instance.batch(200)
    tokens = instance.drafts(200, seed)
    tokens[:, position] = target[:, position].argmax(-1)
    draft[:, position].scatter_(-1, tokens[:, position, None], 0.0)
    accepted, _ = rule_named(rule).verify(target, draft, tokens, seeded(seed))
    assert (accepted <= position).all()


@pytest.mark.parametrize("rule", RULES)
def test_seeds_decide_the_outcome_and_inputs_stay_as_they_are(rule: str) -> None:
    instance = INSTANCES["any, V=5, k=2"]
    target, draft = instance.batch(500)
    tokens = instance.drafts(500, 1)
    before = [target.clone(), draft.clone(), tokens.clone()]

    def outcome(seed: int) -> list[list[int]]:
        accepted, following = rule_named(rule).verify(target, draft, tokens, seeded(seed))
        assert accepted.shape == following.shape == (500,)
        assert ((following >= 0) & (following < instance.vocabulary)).all()
        return [accepted.tolist(), following.tolist()]

    torch.manual_seed(0)
    first = outcome(1)
    torch.manual_seed(1)  # the state of torch's own generator does not matter
    assert outcome(1) == first
    assert (outcome(2) != first) == (rule != "greedy")
    assert all(
        torch.equal(copy, tensor)
        for copy, tensor in zip(before, [target, draft, tokens], strict=True)
    )


def test_an_unknown_rule_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(
        RequestError, match=f"'lossless' is unknown; choose among {', '.join(RULES)}"
    ):
        rule_named("lossless")


@pytest.mark.parametrize("name", RULES)
def test_every_rule_goes_by_its_name(name: str) -> None:
    assert isinstance(rule_named(name), Rule)
    assert rule_named(name).name == name
