"""Acceptance in the contexts of another target's texts, by enumeration of every text."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from pytest_specdec.acceptance.contexts import context_counts
from pytest_specdec.acceptance.counts import Array
from pytest_specdec.acceptance.scores import Scores

VOCABULARY, EOS, LIMIT, K = 3, 2, 4, 3
PROMPT = (0,)
Chain = Array
"""(previous token, next token): probabilities."""


def chain(seed: int, *, sharp: float = 1.0) -> Chain:
    logits = sharp * np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY))
    weights = np.exp(logits)
    table: Chain = weights / weights.sum(1, keepdims=True)
    return table


def cut(table: Chain) -> Chain:
    """Without the least probable token of each context, as top-k does."""
    kept = np.where(table > table.min(1, keepdims=True), table, 0.0)
    cut_: Chain = kept / kept.sum(1, keepdims=True)
    return cut_


OLD, NEW, DRAFT, OTHER_DRAFT = (chain(seed) for seed in range(4))


def texts(target: Chain) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every text with its probability: at most LIMIT new tokens, or up to EOS."""

    def grow(ids: tuple[int, ...], chance: float) -> Iterator[tuple[tuple[int, ...], float]]:
        if len(ids) - 1 == LIMIT or (len(ids) > 1 and ids[-1] == EOS):
            yield ids, chance
            return
        for token in range(VOCABULARY):
            if target[ids[-1], token] > 0:
                yield from grow((*ids, token), chance * target[ids[-1], token])

    yield from grow(PROMPT, 1.0)


ACCEPTS: dict[str, Callable[[float, float], float]] = {
    "rejection": lambda p, q: min(p, q),
    "sample-match": lambda p, q: p * q,
}
"""p times the chance that a token is accepted if the target emits it."""


def overlap(rule: str, target: Chain, draft: Chain) -> Array:
    if rule == "block":
        return np.zeros(VOCABULARY)
    return np.array(
        [
            sum(ACCEPTS[rule](p, q) for p, q in zip(target[row], draft[row], strict=True))
            for row in range(VOCABULARY)
        ]
    )


def scores_of(ids: tuple[int, ...], old: Chain, target: Chain, draft: Chain, rule: str) -> Scores:
    """As replay would make them of one text."""
    with np.errstate(divide="ignore"):
        steps = [(before, after) for before, after in itertools.pairwise(ids)]
        logs = [
            np.log([[0.0 if at == 0 else table[steps[at - 1]] for at in range(len(ids))]])
            for table in (target, draft, old)
        ]
    overlaps = overlap(rule, target, draft)
    by_position = np.array([[[0.0, *(overlaps[before] for before, _ in steps)]]])
    log_target, log_draft, log_old = logs
    log_target[:, 0] = log_old[:, 0] = 0.0
    return Scores(
        prompts=("text",),
        categories=("all",),
        target=log_target,
        draft=log_draft[:, None],
        starts=np.array([2]),
        lengths=np.array([len(ids)]),
        source=log_old,
        overlaps={} if rule == "block" else {rule: by_position},
    )


def expected(old: Chain, target: Chain, draft: Chain, rule: str) -> tuple[Array, float, float]:
    """Over all texts of the old target: accepted tokens by position, starts, and the bound."""
    accepted, starts, unseen = np.zeros(K), 0.0, 0.0
    for ids, chance in texts(old):
        scores = scores_of(ids, old, target, draft, rule)
        limits = np.array([1 + LIMIT])
        measured = context_counts(scores, rule, K, limits, filters=True)
        assert measured is not None
        accepted += chance * measured.counts.accepted[0]
        starts += chance * measured.counts.rounds[0]
    # The bound is clipped at 0 text by text, so its mean is taken over all texts together.
    for ids, chance in texts(old):
        unseen += chance * _unclipped(ids, old, target, draft, rule)
    return accepted, starts, unseen


def _unclipped(ids: tuple[int, ...], old: Chain, target: Chain, draft: Chain, rule: str) -> float:
    """The bound of one text, by its definition."""
    total = 0.0
    for start in range(2, len(ids)):
        if start + K > 1 + LIMIT:
            continue
        path, alive, product = 1.0, 1.0, 1.0
        for step in range(K - 1):
            at = start + step
            if at >= len(ids):
                break
            before, after = ids[at - 1], ids[at]
            p, q, source = target[before, after], draft[before, after], old[before, after]
            if rule == "block":
                total += (K - 1 - step) * path * alive * (1 - p / source)
                product *= q / p if p > 0 else 1.0  # its path has weight 0
                alive = min(alive, product)
                path *= p / source
            else:
                weight = ACCEPTS[rule](p, q) / source
                total += (K - 1 - step) * path * (overlap(rule, target, draft)[before] - weight)
                path *= weight
    return total


def truth(old: Chain, target: Chain, draft: Chain, rule: str) -> tuple[Array, float]:
    """The same by sums over drafts, in every context of every text of the old target."""
    accepted, starts = np.zeros(K), 0.0
    contexts: dict[tuple[int, ...], float] = {}
    for ids, chance in texts(old):
        for start in range(2, len(ids)):
            if start + K <= 1 + LIMIT:
                contexts[ids[:start]] = contexts.get(ids[:start], 0.0) + chance
    for context, chance in contexts.items():
        starts += chance
        accepted += chance * survival(context[-1], target, draft, rule)
    return accepted, starts


def survival(last: int, target: Chain, draft: Chain, rule: str) -> Array:
    """The chance that a round after token `last` accepts each position: a sum over its drafts."""
    alive = np.zeros(K)

    def grow(before: int, step: int, chance: float, weight: float) -> None:
        if step == K:
            return
        for token in range(VOCABULARY):
            p, q = target[before, token], draft[before, token]
            if q == 0:
                continue
            if rule == "rejection":
                now = weight * min(1.0, p / q)
            elif rule == "sample-match":
                now = weight * p
            else:
                now = min(1.0, weight * p / q)
            alive[step] += chance * q * now
            if token != EOS:  # after EOS nothing is accepted
                grow(token, step + 1, chance * q, now)

    grow(last, 0, 1.0, 1.0)
    return alive


RULES = ("rejection", "sample-match", "block")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("target", "draft"),
    [
        pytest.param(OLD, DRAFT, id="nothing-changed"),
        pytest.param(NEW, DRAFT, id="target-changed"),
        pytest.param(NEW, OTHER_DRAFT, id="both-changed"),
        pytest.param(cut(NEW), cut(DRAFT), id="new-support-is-smaller"),
    ],
)
def test_the_mean_over_all_texts_is_the_sum_over_all_drafts(
    rule: str, target: Chain, draft: Chain
) -> None:
    estimated, starts, unseen = expected(OLD, target, draft, rule)
    exact, contexts = truth(OLD, target, draft, rule)
    assert starts == pytest.approx(contexts, abs=1e-12)
    assert estimated == pytest.approx(exact, abs=1e-12)
    assert unseen == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_the_bound_covers_what_tokens_outside_the_old_support_may_add(rule: str) -> None:
    old = cut(OLD)
    estimated, _, unseen = expected(old, NEW, DRAFT, rule)
    exact, _ = truth(old, NEW, DRAFT, rule)
    missed = float((exact - estimated).sum())
    assert missed > 1e-3
    assert missed <= unseen


def test_the_reported_bound_is_that_of_its_definition() -> None:
    old = cut(OLD)
    bounds = []
    for ids, _ in texts(old):
        scores = scores_of(ids, old, NEW, DRAFT, "rejection")
        measured = context_counts(scores, "rejection", K, np.array([1 + LIMIT]), filters=True)
        assert measured is not None
        if starts := measured.counts.total_rounds:
            per_round = _unclipped(ids, old, NEW, DRAFT, "rejection") / starts
            assert measured.unseen == pytest.approx(max(per_round, 0.0))
            bounds.append(measured.unseen)
    assert max(bounds) > 0


def test_without_filters_there_is_no_bound() -> None:
    ids = (0, 1, 1, 0, 1)
    scores = scores_of(ids, OLD, NEW, DRAFT, "rejection")
    measured = context_counts(scores, "rejection", K, np.array([1 + LIMIT]))
    assert measured is not None
    assert measured.unseen == 0.0


def test_the_first_position_is_exact_in_every_text() -> None:
    overlaps = overlap("rejection", NEW, DRAFT)
    for ids, _ in texts(OLD):
        scores = scores_of(ids, OLD, NEW, DRAFT, "rejection")
        measured = context_counts(scores, "rejection", K, np.array([1 + LIMIT]))
        assert measured is not None
        starts = [at for at in range(2, len(ids)) if at + K <= 1 + LIMIT]
        exact = sum(overlaps[ids[at - 1]] for at in starts)
        assert measured.counts.accepted[0, 0] == pytest.approx(exact)


def test_weights_of_the_same_target_are_all_effective() -> None:
    scores = scores_of((0, 1, 1, 0, 1), OLD, OLD, DRAFT, "rejection")
    measured = context_counts(scores, "rejection", 2, np.array([1 + LIMIT]))
    assert measured is not None
    assert measured.effective_share == pytest.approx(1.0)


def test_weights_of_an_unlike_target_are_few() -> None:
    unlike = chain(9, sharp=6.0)
    rng = np.random.default_rng(0)
    ids = [0]
    for _ in range(200):
        ids.append(int(rng.choice(2, p=OLD[ids[-1], :2] / OLD[ids[-1], :2].sum())))
    scores = scores_of(tuple(ids), OLD, unlike, DRAFT, "rejection")
    measured = context_counts(scores, "rejection", K, np.array([len(ids)]))
    assert measured is not None
    ratio = np.array([unlike[a, b] / OLD[a, b] for a, b in itertools.pairwise(ids)])
    weights = np.array([np.prod(ratio[at - 1 : at - 1 + K]) for at in range(2, len(ids) - K + 1)])
    share = weights.sum() ** 2 / (len(weights) * (weights**2).sum())
    assert measured.effective_share == pytest.approx(share)
    assert share < 0.5


def test_a_drafter_without_overlaps_is_not_judged() -> None:
    scores = dataclasses.replace(scores_of((0, 1, 1), OLD, NEW, DRAFT, "rejection"), overlaps={})
    assert context_counts(scores, "rejection", 1, np.array([1 + LIMIT])) is None


def test_greedy_contexts_follow_the_text_with_the_overlap_of_each() -> None:
    overlaps = np.array([[[0.0, 0.9, 0.8, 0.5, 0.4]]])
    scores = Scores(
        prompts=("text",),
        categories=("all",),
        target=np.zeros((1, 5)),
        draft=np.zeros((1, 1, 5)),
        starts=np.array([2]),
        lengths=np.array([5]),
        overlaps={"greedy": overlaps},
    )
    measured = context_counts(scores, "greedy", 2, np.array([5]))
    assert measured is not None
    assert measured.counts.rounds.tolist() == [2.0]
    assert measured.counts.accepted[0] == pytest.approx([0.8 + 0.5, 0.8 * 0.5 + 0.5 * 0.4])


def test_tokens_that_are_not_proposed_are_not_accepted() -> None:
    scores = dataclasses.replace(
        scores_of((0, 1, 1, 0, 1), OLD, NEW, DRAFT, "rejection"),
        available=np.array([[0, 0, 1, 0, 0]]),
    )
    measured = context_counts(scores, "rejection", 2, np.array([1 + LIMIT]))
    assert measured is not None
    assert measured.counts.accepted[0, 0] == pytest.approx(overlap("rejection", NEW, DRAFT)[1])
    assert measured.counts.accepted[0, 1] == 0.0
    # A stored record holds starts alone, so every start counts k drafts on both sides of a rate.
    assert measured.counts.drafted.tolist() == [[measured.counts.total_rounds] * 2]
