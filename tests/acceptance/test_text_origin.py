"""The origin of texts: what is refused, and that texts of the target are not, by exact bounds and
by simulation.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_specdec.acceptance.text_origin import LEVEL, TILTS, Origin, joined, source_problem
from pytest_specdec.cases.case import Sampling
from pytest_specdec.common.errors import MeasurementError


def origin(
    tokens: int,
    outside: int = 0,
    bets: list[list[float]] | None = None,
    sampling: Sampling | None = None,
) -> Origin:
    all_bets = np.zeros((0, 1)) if bets is None else np.array(bets)
    filters = sampling or Sampling(1.0, 20, 0.9)
    return Origin(
        filters, tuple(f"p{row}" for row in range(all_bets.shape[1])), tokens, (outside,), all_bets
    )


def simulated(
    rng: np.random.Generator, runs: int, texts: int, length: int, power: float = 1.0
) -> np.ndarray:
    """Bets (runs, tilts, texts) of texts drawn from p^power, each token from a fresh random
    distribution p.
    """
    bets = np.zeros((runs, len(TILTS), texts))
    for _ in range(length):
        p = rng.dirichlet(np.full(12, 0.4), size=(runs, texts)) + 1e-12
        p /= p.sum(-1, keepdims=True)
        drawn = p**power / (p**power).sum(-1, keepdims=True)
        token = (drawn.cumsum(-1) < rng.random((runs, texts, 1))).sum(-1).clip(max=11)
        chosen = np.take_along_axis(p, token[..., None], -1)[..., 0]
        for row, tilt in enumerate(TILTS):
            bets[:, row] += (tilt - 1) * np.log(chosen) - np.log((p**tilt).sum(-1))
    return bets


def evidence(bets: np.ndarray) -> np.ndarray:
    return np.array([origin(1, bets=text_bets.tolist()).log_evidence for text_bets in bets])


def test_the_evidence_against_the_targets_own_texts_has_expectation_one() -> None:
    """So that Markov's inequality bounds false refusals, whatever the target and the number of
    texts.
    """
    values = np.exp(evidence(simulated(np.random.default_rng(0), 4000, 3, 4)))
    assert abs(values.mean() - 1) < 4 * values.std() / math.sqrt(len(values))


def test_long_texts_of_the_target_add_no_evidence() -> None:
    assert evidence(simulated(np.random.default_rng(1), 50, 4, 400)).max() < math.log(100)


@pytest.mark.parametrize(
    ("power", "detected"),
    [(0.75, True), (1.25, True), (2.0, True), (0.5, True), (1.03, False), (0.97, False)],
)
def test_texts_of_another_temperature_are_found_and_rounding_is_not(
    power: float, detected: bool
) -> None:
    values = evidence(simulated(np.random.default_rng(2), 10, 6, 800, power))
    assert ((values > -math.log(LEVEL)) == detected).all()


def test_one_foreign_text_among_many_is_found() -> None:
    rng = np.random.default_rng(3)
    bets = np.concatenate(
        [simulated(rng, 1, 60, 400)[0], simulated(rng, 1, 1, 400, 6.0)[0]], axis=1
    )
    with pytest.raises(
        MeasurementError,
        match=r"much more probable than what it samples .* most of all the text of prompt p60",
    ):
        Origin(Sampling(), tuple(f"p{row}" for row in range(61)), 61 * 400, (0,) * 61, bets).check()


def test_a_token_that_cannot_be_is_refused() -> None:
    with pytest.raises(
        MeasurementError,
        match="not this target's under these settings: they are much less probable",
    ):
        origin(50, bets=[[math.inf], [-math.inf]]).check()


@pytest.mark.parametrize(
    ("tokens", "outside", "refused"),
    [(7000, 140, False), (7000, 141, True), (20, 3, False), (20, 4, True)],
)
def test_few_tokens_outside_are_counted_and_many_are_refused(
    tokens: int, outside: int, refused: bool
) -> None:
    few_outside = origin(tokens, outside, bets=[[0.0], [0.0]])
    assert (
        few_outside.note
        == f"{outside} of {tokens:,} tokens lie outside the target's top-k 20 and top-p 0.9 here"
    )
    if not refused:
        few_outside.check()
        return
    with pytest.raises(
        MeasurementError,
        match=rf"{outside} of {tokens:,} tokens .* \(2% at most by rounding\); restore them from",
    ):
        few_outside.check()


def test_notes_say_what_lies_outside() -> None:
    assert origin(10).note is None
    assert (
        origin(10, 1, sampling=Sampling(1.0, 5)).note
        == "1 of 10 tokens lies outside the target's top-k 5 here"
    )
    assert (
        origin(10, 2, sampling=Sampling(0.0)).note
        == "2 of 10 tokens lie below the target's arg-max by more than a tie"
    )


def test_parts_join() -> None:
    both = joined([origin(5, 1, [[0.5], [-0.5]]), origin(7, 0, [[1.0], [0.0]])])
    assert (both.tokens, both.outside, both.bets.tolist()) == (
        12,
        (1, 0),
        [[0.5, 1.0], [-0.5, 0.0]],
    )


@pytest.mark.parametrize(
    ("shift", "refused"), [(0.0, False), (0.004, False), (-0.05, True), (-0.5, True)]
)
def test_log_probabilities_below_those_of_the_texts_are_found(shift: float, refused: bool) -> None:
    """Whatever the other target is: here one that lies near the one that emitted the texts."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(12, 0.4), size=(20, 100)) + 1e-9
    p /= p.sum(-1, keepdims=True)
    other = p * np.exp(0.1 * rng.normal(size=p.shape))
    other /= other.sum(-1, keepdims=True)
    token = (p.cumsum(-1) < rng.random((20, 100, 1))).sum(-1).clip(max=11)[..., None]
    now, source = (np.log(np.take_along_axis(model, token, -1)[..., 0]) for model in (other, p))
    new = np.ones(now.shape, dtype=bool)
    problem = source_problem(now, source + shift, new)
    assert (problem is not None) == refused
    assert source_problem(now, source + shift, np.zeros_like(new)) is None


def test_tokens_that_the_other_target_cannot_emit_are_no_evidence() -> None:
    now = np.full((1, 50), -np.inf)
    assert source_problem(now, np.full((1, 50), -1.0), np.ones((1, 50), dtype=bool)) is None
