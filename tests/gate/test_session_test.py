"""The max-test of a session: adjusted p-values against their definition, the session's level, and
what is gained over Bonferroni.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import pytest
from helpers.records import counts, scaled, steady_counts
from scipy import stats

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.paired import Pair
from pytest_specdec.gate.permutation import SwapStatistic, paired_permutation_test
from pytest_specdec.gate.session_test import CellTest, Family, SessionTest, step_down

pytestmark = pytest.mark.slow

ALPHA = 0.05


def run_of_cells(
    rng: np.random.Generator, skill: np.ndarray, cells: int, own: float, losses: Mapping[int, float]
) -> list[Counts]:
    """One run of several cells on the same texts, so that they vary together; `own` is how far each
    cell also varies by itself.
    """
    texts = rng.normal(0, 0.5, len(skill))
    runs = []
    for cell in range(cells):
        odds = skill + texts + own * rng.normal(0, 0.5, len(skill))
        share = (1 - losses.get(cell, 0.0)) / (1 + np.exp(-odds))
        runs.append(counts([40.0] * len(skill), np.stack([40 * share, 40 * share**2], 1).tolist()))
    return runs


def session_pairs(
    seed: int,
    *,
    prompts: int = 40,
    cells: int = 8,
    own: float = 0.1,
    losses: Mapping[int, float] | None = None,
) -> dict[Hashable, Pair]:
    rng = np.random.default_rng(seed)
    skill = rng.normal(1, 1, prompts)
    before = run_of_cells(rng, skill, cells, own, {})
    now = run_of_cells(rng, skill, cells, own, losses or {})
    return {cell: Pair.of(*sides) for cell, sides in enumerate(zip(before, now, strict=True))}


def session_of(pairs: Mapping[Hashable, Pair], **options: Any) -> SessionTest:
    family = Family(pairs=pairs, apart=options.pop("apart", 0))
    return SessionTest(**{"alpha": ALPHA, "gates": len(pairs), **options}, family=lambda: family)


def rejected(session: SessionTest, pairs: Mapping[Hashable, Pair]) -> set[Hashable]:
    return {cell for cell, pair in pairs.items() if session.test(cell, pair).rejects}


def closed_p_values(observed: np.ndarray, values: np.ndarray) -> list[float]:
    """By the definition of closed testing: a cell's adjusted p-value is the largest of the max-tests
    of all sets of cells that it belongs to.
    """
    cells = range(len(observed))
    adjusted = np.zeros(len(observed))
    for size in range(1, len(observed) + 1):
        for subset in map(list, itertools.combinations(cells, size)):
            share = np.mean(values[subset].max(0) >= observed[subset].max() - 1e-10)
            adjusted[subset] = np.maximum(adjusted[subset], share)
    return adjusted.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_step_down_is_closed_testing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(5, 1)) * 0.3 + rng.normal(size=(5, 60)) + rng.normal(size=60)
    observed = values[:, 0] = values[:, 0] + rng.exponential(1.5, 5)
    assert step_down(observed, values) == pytest.approx(closed_p_values(observed, values))


def test_equal_cells_have_equal_adjusted_p_values() -> None:
    values = np.tile(np.random.default_rng(0).normal(size=50), (3, 1))
    adjusted = step_down(values[:, 0], values)
    assert adjusted == [adjusted[0]] * 3 == [np.mean(values[0] >= values[0, 0])] * 3


@pytest.mark.parametrize("seed", range(3))
def test_with_few_prompts_the_adjusted_p_value_is_that_of_all_labellings(seed: int) -> None:
    pairs = session_pairs(seed, prompts=7, cells=3, own=1.0, losses={0: 0.3, 1: 0.2})
    statistics = [SwapStatistic(pair) for pair in pairs.values()]
    values = np.array(
        [
            [
                max(
                    sum(statistic.weights[:, row] * called for row, called in enumerate(labels))
                    + statistic.constant
                )
                for labels in itertools.product([0, 1], repeat=7)
            ]
            for statistic in statistics
        ]
    )
    mean, spread = values.mean(1, keepdims=True), values.std(1, keepdims=True)
    expected = closed_p_values(
        ((np.array([statistic.observed for statistic in statistics])[:, None] - mean) / spread)[
            :, 0
        ],
        (values - mean) / spread,
    )
    session = session_of(pairs)
    for cell, pair in pairs.items():
        own = paired_permutation_test(pair, level=ALPHA).p_value
        result = session.test(cell, pair)
        assert result.p_value == pytest.approx(own if own > ALPHA else expected[cell])  # type: ignore[call-overload]
        assert result.rejects == (result.p_value <= ALPHA)
        assert result.cells == (1 if own > ALPHA else 3)


def never() -> Family:
    raise AssertionError("other cells are measured only where they matter")


def test_a_cell_above_alpha_is_decided_by_itself() -> None:
    pair = Pair(steady_counts(12), steady_counts(12))
    for other in (pair, session_pairs(0)[0]):
        result = SessionTest(alpha=ALPHA, gates=8, family=never).of("cell").drop(other)
        assert not result.rejects
        assert result.cells == 1
        assert result.p_value == paired_permutation_test(other, level=ALPHA).p_value > ALPHA


def test_the_other_cells_are_measured_once_and_in_any_order_the_results_are_the_same() -> None:
    pairs = session_pairs(1, losses=dict.fromkeys(range(8), 0.2))
    measured: list[int] = []

    def family() -> Family:
        measured.append(1)
        return Family(pairs=pairs)

    results = []
    for order in (list(pairs), list(pairs)[::-1]):
        session = SessionTest(alpha=ALPHA, gates=8, family=family)
        found = {cell: session.test(cell, pairs[cell]) for cell in order}
        assert all(session.test(cell, pairs[cell]) is found[cell] for cell in order)
        results.append([found[cell] for cell in pairs])
    assert results[0] == results[1]
    assert all(result.rejects and result.cells == 8 for result in results[0])
    assert len(measured) == 2


def test_the_same_cell_many_times_costs_nothing() -> None:
    pair = session_pairs(3, losses={0: 0.1})[0]
    alone = CellTest.alone(ALPHA).drop(pair)
    assert alone.p_value <= ALPHA
    many = session_of(dict.fromkeys(range(50), pair), gates=50)
    assert many.test(7, pair).p_value == pytest.approx(alone.p_value)


def test_cells_on_some_of_the_prompts_share_the_labels_of_those() -> None:
    pairs = session_pairs(4, losses=dict.fromkeys(range(8), 0.2))
    some = {
        cell: Pair.of(
            *(side.select(list(range(5 * cell, 40))) for side in (pair.before, pair.now))  # type: ignore[operator]
        )
        for cell, pair in pairs.items()
    }
    session = session_of(some)
    assert rejected(session, some) == {0, 1, 2, 3, 4, 5, 6}, "7 has too few prompts"
    assert all(
        session.test(cell, pair).p_value >= paired_permutation_test(pair, level=ALPHA).p_value
        for cell, pair in some.items()
    )


def test_a_gain_is_adjusted_as_a_drop_is() -> None:
    pairs = session_pairs(5, losses=dict.fromkeys(range(8), 0.2))
    turned: dict[Hashable, Pair] = {
        cell: Pair.of(pair.now, pair.before) for cell, pair in pairs.items()
    }
    drops, gains = session_of(pairs), session_of(turned)
    for cell, pair in turned.items():
        gain = gains.of(cell).gain(pair)
        assert gain.rejects
        assert gain.p_value == pytest.approx(drops.test(cell, pairs[cell]).p_value, abs=0.01)
        assert not gains.of(cell).drop(pair).rejects


# Alpha and its shares.


def repeated(pair: Pair) -> Pair:
    return Pair.of([pair.before, pair.before], pair.now)


def test_cells_of_another_number_of_runs_have_a_share_of_alpha() -> None:
    pairs = session_pairs(6, cells=2, losses={0: 0.5, 1: 0.5})
    mixed = {**pairs, 2: repeated(pairs[0]), 3: repeated(pairs[1])}
    alone, both = session_of(pairs), session_of(mixed)
    assert both.test(0, pairs[0]).cells == 2
    smallest = 1 / (1 + 10 / ALPHA), 1 / (1 + 20 / ALPHA)
    assert alone.test(0, pairs[0]).p_value == pytest.approx(smallest[0])
    assert both.test(0, pairs[0]).p_value == pytest.approx(2 * smallest[1])


def test_gates_that_are_judged_apart_keep_their_share() -> None:
    pairs = session_pairs(6, cells=1, losses={0: 0.5})
    session = session_of(pairs, gates=4, apart=3)
    assert session.test(0, pairs[0]).p_value == pytest.approx(4 / (1 + 40 / ALPHA))
    exact = session_of(pairs, gates=4, apart=0)
    assert exact.test(0, pairs[0]).p_value == pytest.approx(1 / (1 + 10 / ALPHA))


@pytest.mark.parametrize(
    ("prompts", "level", "measures"),
    [(4, ALPHA, False), (6, ALPHA / 3, True), (9, ALPHA / 18, False)],
)
def test_the_level_that_few_prompts_must_reach(prompts: int, level: float, measures: bool) -> None:
    pairs = session_pairs(0, prompts=prompts, cells=3)
    measured: list[int] = []

    def family() -> Family:
        measured.append(1)
        return Family(pairs=pairs, apart=6)

    session = SessionTest(alpha=ALPHA, gates=9, family=family)
    assert session.of(0).level(pairs[0]) == pytest.approx(level)
    assert bool(measured) == measures


# Level and power, by simulation.


def share(of: Callable[[int], bool], sessions: int) -> float:
    return sum(map(of, range(sessions))) / sessions


def test_unchanged_sessions_fail_as_often_as_alpha_says() -> None:
    sessions = 400

    def fails(seed: int) -> bool:
        pairs = session_pairs(seed)
        return bool(rejected(session_of(pairs), pairs))

    low, high = stats.binom.ppf([0.001, 0.999], sessions, ALPHA) / sessions
    assert low <= share(fails, sessions) <= high


def test_unchanged_cells_are_named_no_more_often_where_others_fell() -> None:
    sessions = 300

    def errs(seed: int) -> bool:
        pairs = session_pairs(seed, losses=dict.fromkeys(range(4), 0.5))
        named = rejected(session_of(pairs), pairs)
        assert named >= {0, 1, 2, 3}
        return len(named) > 4

    low, high = stats.binom.ppf([0.001, 0.999], sessions, ALPHA) / sessions
    assert low <= share(errs, sessions) <= high


def test_cells_that_vary_together_see_more_than_by_bonferroni() -> None:
    sessions, cells = 80, 8
    losses = dict.fromkeys(range(cells), 0.06)
    together = bonferroni = 0
    for seed in range(sessions):
        pairs = session_pairs(seed, losses=losses)
        together += len(rejected(session_of(pairs), pairs))
        bonferroni += sum(
            CellTest.alone(ALPHA / cells).drop(pair).rejects for pair in pairs.values()
        )
    assert together > bonferroni + 0.1 * sessions * cells


def test_a_cell_that_fell_alone_is_named_alone() -> None:
    pairs = session_pairs(8, own=1.0)
    pairs[3] = Pair.of(pairs[3].before, scaled(pairs[3].before, 0.8))
    assert rejected(session_of(pairs), pairs) == {3}
