"""The acceptance report on audio tokens: a 1B draft model with three MTP layers, judged by an 8B
target.

1,000 samples for each k, each sample one round from its own context. Its conclusion names the k
that accepts most, by the best single sample; by its own times another k is the fastest.
"""

import statistics

import pytest

from pytest_specdec import CostProfile, best_k

RATE = {4: 86.09, 8: 63.41, 12: 45.97, 16: 35.20}
"""Mean acceptance rate in percent."""
EXPECTED = {4: 3.44, 8: 5.07, 12: 5.52, 16: 5.63}
"""Mean expected accepted tokens per round."""
EFFICIENCY = {4: 86.1, 8: 63.4, 12: 46.0, 16: 35.2}
COSTS = CostProfile(
    verify={4: 93.76, 8: 94.41, 12: 94.91, 16: 95.37},
    draft={3: {4: 371.22, 8: 382.51, 12: 392.05, 16: 401.12}},
)
LENGTHS = {k: 1 + accepted for k, accepted in EXPECTED.items()}


@pytest.mark.parametrize("k", RATE)
def test_rate_times_k_is_expected_accepted_and_efficiency_is_the_rate(k: int) -> None:
    assert RATE[k] / 100 * k == pytest.approx(EXPECTED[k], abs=0.005 + 1e-9)
    assert RATE[k] == pytest.approx(EFFICIENCY[k], abs=0.05)


def test_overall_means_are_the_means_of_the_combinations() -> None:
    assert f"{statistics.mean(RATE.values()):.2f}" == "57.67"
    assert f"{statistics.mean(EXPECTED.values()):.2f}" == "4.92"


def test_the_rate_falls_and_expected_accepted_saturates() -> None:
    assert list(RATE.values()) == sorted(RATE.values(), reverse=True)
    gains = [EXPECTED[k] - EXPECTED[k - 4] for k in (8, 12, 16)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] < 0.15


def test_the_best_k_by_its_own_times_is_12_although_16_accepts_more() -> None:
    assert max(EXPECTED, key=lambda k: EXPECTED[k]) == 16
    assert best_k(LENGTHS, COSTS, depth=3) == 12
    per_second = {k: 1000 * LENGTHS[k] / COSTS.round_ms(k, 3) for k in LENGTHS}
    assert {k: round(value, 2) for k, value in per_second.items()} == {
        4: 9.55,
        8: 12.73,
        12: 13.39,
        16: 13.35,
    }
