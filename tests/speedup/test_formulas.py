"""The published tables, from the formulas."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.common.errors import CostError
from pytest_specdec.speedup.cost_profile import CostProfile
from pytest_specdec.speedup.formulas import (
    acceptance_length,
    best_depth,
    best_k,
    theoretical_speedup,
)

# The article on MTP in theory: conditional acceptance of each step, and milliseconds by number of
# steps.
CONDITIONAL = (0.80, 0.74, 0.67)
ARTICLE = CostProfile(
    verify={1: 90.0, 2: 104.0, 3: 117.0}, draft={0: {1: 8.0, 2: 14.0, 3: 22.0}}, target_ms=76.0
)
LENGTHS = {k: acceptance_length(CONDITIONAL[:k]) for k in (1, 2, 3)}

# The report on audio tokens, MTP with three layers: k -> acceptance rate, expected accepted, draft
# and verify milliseconds.
AUDIO = {
    4: (0.8609, 3.44, 371.22, 93.76),
    8: (0.6341, 5.07, 382.51, 94.41),
    12: (0.4597, 5.52, 392.05, 94.91),
    16: (0.3520, 5.63, 401.12, 95.37),
}
AUDIO_COSTS = CostProfile(
    verify={k: verify for k, (_, _, _, verify) in AUDIO.items()},
    draft={3: {k: draft for k, (_, _, draft, _) in AUDIO.items()}},
)


def article_speedup(length: float, k: int) -> float:
    return theoretical_speedup(
        length, target_ms=76.0, verify_ms=ARTICLE.verify_ms(k), draft_ms=ARTICLE.draft_ms(k)
    )


@pytest.mark.parametrize(
    ("k", "length", "printed"), [(1, 1.8, "1.80"), (2, 2.392, "2.39"), (3, 2.78864, "2.79")]
)
def test_the_articles_acceptance_lengths(k: int, length: float, printed: str) -> None:
    assert LENGTHS[k] == pytest.approx(length, abs=1e-12)
    assert f"{LENGTHS[k]:.2f}" == printed


# Unrounded lengths give 1.3959, 1.5406 and 1.5247. The article prints 1.39, 1.55 and 1.53: the
# first is cut off, not rounded; the second follows from no length that it prints (76 * 2.39 / 118 =
# 1.5393); the third has 2.79 for 2.78864.
@pytest.mark.parametrize(("k", "speedup"), [(1, 1.395918), (2, 1.540610), (3, 1.524724)])
def test_the_articles_speedups_without_rounding_on_the_way(k: int, speedup: float) -> None:
    assert article_speedup(LENGTHS[k], k) == pytest.approx(speedup, abs=1e-6)


@pytest.mark.parametrize(
    ("k", "length", "cut", "rounded"),
    [(1, 1.80, "1.39", "1.40"), (2, 2.39, "1.53", "1.54"), (3, 2.79, "1.52", "1.53")],
)
def test_the_articles_speedups_from_its_printed_lengths(
    k: int, length: float, cut: str, rounded: str
) -> None:
    speedup = article_speedup(length, k)
    assert (f"{int(speedup * 100) / 100:.2f}", f"{speedup:.2f}") == (cut, rounded)


def test_the_articles_third_step_costs_more_than_it_brings() -> None:
    speedups = [article_speedup(LENGTHS[k], k) for k in (1, 2, 3)]
    assert speedups[1] / speedups[0] == pytest.approx(1.1036, abs=1e-4)
    assert speedups[2] / speedups[1] == pytest.approx(0.9897, abs=1e-4)


def test_best_k_of_the_article_is_two() -> None:
    assert best_k(LENGTHS, ARTICLE) == 2


@pytest.mark.parametrize("k", AUDIO)
def test_the_audio_reports_expected_accepted_tokens_are_rate_times_k(k: int) -> None:
    rate, expected, _, _ = AUDIO[k]
    assert f"{rate * k:.2f}" == f"{expected:.2f}"


def test_the_audio_reports_overall_means_are_means_over_k() -> None:
    rates = [rate for rate, *_ in AUDIO.values()]
    assert f"{sum(rates) / 4:.2%}" == "57.67%"
    assert f"{sum(rate * k for k, rate in zip(AUDIO, rates, strict=True)) / 4:.2f}" == "4.92"


def test_best_k_of_the_audio_report_is_twelve() -> None:
    """Tokens per round include the one that the target emits itself."""
    lengths = {(k, 3): 1 + expected for k, (_, expected, _, _) in AUDIO.items()}
    assert best_depth(lengths, AUDIO_COSTS) == (12, 3)
    assert best_k({k: length for (k, _), length in lengths.items()}, AUDIO_COSTS, depth=3) == 12


def test_accepted_tokens_alone_would_choose_sixteen_by_a_hair() -> None:
    accepted = {k: expected for k, (_, expected, _, _) in AUDIO.items()}
    assert best_k(accepted, AUDIO_COSTS, depth=3) == 16
    per_ms = {k: accepted[k] / AUDIO_COSTS.round_ms(k, 3) for k in AUDIO}
    assert per_ms[16] / per_ms[12] == pytest.approx(1.0004, abs=1e-4)


@given(st.lists(st.floats(0, 1), max_size=8))
@PROPERTY
def test_acceptance_length_lies_between_one_and_all(conditional: list[float]) -> None:
    length = acceptance_length(conditional)
    assert 1.0 <= length <= 1 + len(conditional) + 1e-9
    assert acceptance_length([*conditional, 0.0]) == length
    assert acceptance_length([0.0, *conditional]) == 1.0


@pytest.mark.parametrize("value", [-0.1, 1.1, 80, float("nan")])
def test_a_conditional_acceptance_outside_zero_to_one_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"not a probability; pass fractions"):
        acceptance_length([0.5, value])


def test_drafts_that_are_never_accepted_slow_down() -> None:
    assert theoretical_speedup(1.0, target_ms=10, verify_ms=10, draft_ms=10) == 0.5


@pytest.mark.parametrize("times", [(-1, 5, 5), (5, -1, 5), (5, 5, -1), (5, 0, 0)])
def test_impossible_times_are_refused(times: tuple[float, float, float]) -> None:
    target, verify, draft = times
    with pytest.raises(ValueError, match="pass milliseconds"):
        theoretical_speedup(2.0, target_ms=target, verify_ms=verify, draft_ms=draft)


def test_best_k_does_not_depend_on_the_order_of_lengths() -> None:
    assert best_k(dict(reversed(LENGTHS.items())), ARTICLE) == 2


def test_a_tie_goes_to_the_smaller_k() -> None:
    flat = CostProfile(verify={2: 10.0, 4: 20.0}, draft={0: {2: 10.0, 4: 20.0}})
    assert best_k({4: 4.0, 2: 2.0}, flat) == 2


@pytest.mark.parametrize("choose", [best_k, best_depth])
def test_nothing_to_choose_from_is_refused(choose: object) -> None:
    with pytest.raises(ValueError, match="no acceptance length to choose from"):
        choose({}, ARTICLE)  # type: ignore[operator]


def test_a_k_without_times_is_refused() -> None:
    with pytest.raises(CostError, match="not 4"):
        best_k({**LENGTHS, 4: 3.1}, ARTICLE)


def test_best_depth_weighs_depths_against_each_other() -> None:
    costs = CostProfile(verify={4: 10.0}, draft={0: {4: 40.0}, 3: {4: 10.0}})
    assert best_depth({(4, 0): 4.0, (4, 3): 3.0}, costs) == (4, 3)
    assert best_depth({(4, 0): 4.0, (4, 3): 1.5}, costs) == (4, 0)


def test_formulas_import_nothing_heavy() -> None:
    code = (
        "import sys; from pytest_specdec import CostProfile, acceptance_length, best_depth, "
        "best_k, break_even; "
        "from pytest_specdec import speedup_table, theoretical_speedup; "
        "assert not {'torch', 'pytest', 'numpy', 'transformers', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
