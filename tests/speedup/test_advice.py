"""Advice on stored baselines: every step, the best cell, and each category's own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.records import counts

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.common.errors import CostError
from pytest_specdec.speedup.advice import advise
from pytest_specdec.speedup.cost_profile import CostProfile
from pytest_specdec.speedup.formulas import best_depth

COSTS = CostProfile(
    target_ms=10,
    verify={1: 11, 2: 12, 8: 20},
    draft={0: {1: 2, 2: 4, 8: 16}, 1: {1: 2, 2: 3, 8: 9}},
    own_heads={1: {1: 1, 8: 8}},
)


def geometric(k: int, code: float = 0.9, prose: float = 0.5) -> Counts:
    """Prompts whose drafts are accepted with one chance each."""
    chances = [code + 0.01, code - 0.01, prose + 0.01, prose - 0.01]
    accepted = [[100 * chance**step for step in range(1, k + 1)] for chance in chances]
    return counts([100.0] * 4, accepted, categories=["code", "code", "prose", "prose"])


GRID = {(k, depth): geometric(k) for k in (1, 2, 8) for depth in (0, 1)}


def test_the_best_cell_is_that_of_the_model() -> None:
    advice = advise(GRID, COSTS)
    assert advice.best == best_depth(
        {cell: counts.acceptance_length for cell, counts in GRID.items()}, COSTS
    )
    assert max(advice.speedups.values()) == advice.speedups[advice.best]
    assert [step.k for step in advice.steps[0]] == [1, 2, 8]
    assert all(step.interval is not None for steps in advice.steps.values() for step in steps)


def test_categories_have_best_cells_of_their_own() -> None:
    advice = advise(GRID, COSTS)
    (code, best, shared), (prose, *_) = advice.categories["code"], advice.categories["prose"]
    assert code[0] > prose[0]
    assert best >= shared
    assert best == max(
        advise(
            {cell: counts.by_category()["code"] for cell, counts in GRID.items()}, COSTS
        ).speedups.values()
    )


def test_one_more_token_pays_where_it_has_more_than_it_needs() -> None:
    advice = advise({cell: counts for cell, counts in GRID.items() if cell[1] == 0}, COSTS)
    assert advice.next_acceptance[1, 0] == pytest.approx(GRID[2, 0].conditional[1])
    needs = advice.break_even[1, 0]
    paid = advice.speedups[2, 0] > advice.speedups[1, 0]
    assert paid == (advice.next_acceptance[1, 0] > needs)
    assert (8, 0) not in advice.break_even
    assert (8, 0) not in advice.next_acceptance


def test_whole_requests_decide_where_every_cell_has_them() -> None:
    """At k = 8 each round that has room emits more, and a request, whose end has none, gets less
    than at k = 1.
    """

    def whole(of: Counts, length: float) -> Counts:
        emitted = np.full(len(of.prompts), 120.0)
        return dataclasses.replace(of, emitted=emitted, passes=emitted / length)

    wanted = {(1, 0): whole(geometric(1), 1.6), (8, 0): whole(geometric(8), 1.9)}
    advice = advise(wanted, COSTS)
    assert advice.whole_requests
    assert [step.length for step in advice.steps[0]] == pytest.approx([1.6, 1.9])
    assert advice.best == (1, 0)
    mixed = advise({**wanted, (2, 0): geometric(2)}, COSTS)
    assert not mixed.whole_requests
    assert [step.length for step in mixed.steps[0]] == [
        counts.acceptance_length for counts in (geometric(k) for k in (1, 2, 8))
    ]


def test_drafting_pays_only_where_the_best_cell_beats_plain_decoding() -> None:
    assert advise(GRID, COSTS).drafting_pays
    slow = dataclasses.replace(COSTS, target_ms=1.0)
    advice = advise(GRID, slow)
    assert not advice.drafting_pays
    assert advice.best == advise(GRID, COSTS).best


def test_a_category_without_rounds_in_some_cell_is_left_out() -> None:
    short = counts([100.0, 0.0], [[50.0] * 8, [0.0] * 8], categories=["code", "prose"])
    assert list(advise({(8, 0): short}, COSTS).categories) == ["code"]


def test_a_single_prompt_has_no_interval() -> None:
    single = geometric(2).select([0])
    assert advise({(2, 0): single}, COSTS).steps[0][0].interval is None


def test_own_heads_have_their_own_times() -> None:
    advice = advise({(1, 1): geometric(1)}, COSTS, drafter="mtp")
    assert advice.steps[1][0].round_ms == 12


def test_what_cannot_be_advised_on_is_refused() -> None:
    with pytest.raises(ValueError, match="no counts"):
        advise({}, COSTS)
    with pytest.raises(CostError, match="depth 3"):
        advise({(1, 3): geometric(1)}, COSTS)
    assert np.isfinite(list(advise(GRID, COSTS).break_even.values())).all()
