"""The article on theoretical MTP speed-up (7 February 2026): its worked example, from its own
figures.

It multiplies averaged acceptance rates of three steps, which is right for one context and an
approximation for an average over many; measured acceptance lengths never come about this way. Three
of its printed digits do not follow from its own numbers, and the tests say which.
"""

import pytest

from pytest_specdec import CostProfile, acceptance_length, best_k, break_even, speedup_table

CONDITIONAL = (0.80, 0.74, 0.67)
COSTS = CostProfile(target_ms=76, verify={1: 90, 2: 104, 3: 117}, draft={0: {1: 8, 2: 14, 3: 22}})
LENGTHS = {k: acceptance_length(CONDITIONAL[:k]) for k in (1, 2, 3)}
TABLE = {step.k: step for step in speedup_table(LENGTHS, COSTS)}


@pytest.mark.parametrize(
    ("k", "exact", "printed"), [(1, 1.8, "1.80"), (2, 2.392, "2.39"), (3, 2.78864, "2.79")]
)
def test_acceptance_lengths(k: int, exact: float, printed: str) -> None:
    assert LENGTHS[k] == pytest.approx(exact, abs=1e-12)
    assert f"{LENGTHS[k]:.2f}" == printed


@pytest.mark.parametrize(("k", "total"), [(1, 98), (2, 118), (3, 139)])
def test_total_times(k: int, total: float) -> None:
    assert TABLE[k].round_ms == total


@pytest.mark.parametrize(
    ("k", "exact", "printed"),
    [
        (1, 1.3959, 1.39),  # cut off, not rounded
        (2, 1.5406, 1.55),  # a slip: its own 181.6 / 118 is 1.54
        (3, 1.5247, 1.53),  # from 2.79, rounded on the way; 1.52 without
    ],
)
def test_speedups(k: int, exact: float, printed: float) -> None:
    assert TABLE[k].speedup == pytest.approx(exact, abs=5e-5)
    assert TABLE[k].speedup == pytest.approx(printed, abs=0.01)


def test_the_third_speedup_is_the_printed_one_from_the_rounded_length() -> None:
    rounded = speedup_table({k: round(length, 2) for k, length in LENGTHS.items()}, COSTS)
    assert [f"{step.speedup:.2f}" for step in rounded] == ["1.40", "1.54", "1.53"]


def test_marginal_gains() -> None:
    assert TABLE[2].marginal == pytest.approx(1.1037, abs=5e-5)
    assert TABLE[2].marginal == pytest.approx(1.11, abs=0.01)
    assert f"{TABLE[3].marginal:.2f}" == "0.99"


def test_two_steps_are_best_and_the_third_is_past_the_optimum() -> None:
    assert best_k(LENGTHS, COSTS) == 2
    assert [step.pays for step in TABLE.values()] == [True, True, False]
    assert [step.best for step in TABLE.values()] == [False, True, False]


def test_the_third_step_would_pay_from_an_acceptance_that_it_does_not_reach() -> None:
    """The article's 67 % falls short of the 72 % at which a third step leaves throughput as it
    is.
    """
    needed = break_even(LENGTHS[2], 0.8 * 0.74, round_ms=118, next_round_ms=139)
    assert needed == pytest.approx(0.719, abs=5e-4)
    assert needed > CONDITIONAL[2]
    at_that = speedup_table({**LENGTHS, 3: acceptance_length((0.80, 0.74, needed))}, COSTS)
    assert at_that[2].marginal == pytest.approx(1)
