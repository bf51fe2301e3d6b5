"""Drafting policies on made-up fields: against plays of the very rounds, against each other, and
against counts.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from helpers.records import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

from pytest_specdec.acceptance.renewal import AcceptanceField, expected_counts, with_requests
from pytest_specdec.common.errors import CostError, MeasurementError
from pytest_specdec.speedup.cost_profile import CostProfile
from pytest_specdec.speedup.policies import (
    Confidences,
    Drafting,
    best_fixed,
    confident,
    fixed,
    gain,
    oracle,
    per_category,
    scheduled,
    times,
)
from pytest_specdec.speedup.policy_table import HEADERS, policy_table

pytestmark = pytest.mark.slow

MOST = 4
COSTS = CostProfile(
    target_ms=10,
    verify={1: 11, 4: 14},
    draft={0: {1: 2, 4: 8}},
    own_heads={1: {1: 1, 4: 4}},
    lookup={1: 0.1, 4: 0.1},
)
ROUND_MS = times(COSTS)


def field(
    seed: int, *, texts: int = 5, heads: int = 1, longest: int = 40, sure: bool = False
) -> AcceptanceField:
    rng = np.random.default_rng(seed)
    accept = rng.beta(2, 1, (texts, heads, longest))
    accept = np.round(accept) if sure else accept
    lengths = rng.integers(longest - 10, longest + 1, texts)
    accept[np.broadcast_to(np.arange(longest) >= lengths[:, None, None], accept.shape)] = 0
    names = tuple(f"p{row}" for row in range(texts))
    return AcceptanceField(
        names, tuple("ab"[row % 2] for row in range(texts)), accept, np.full(texts, 3), lengths
    )


def confidences(seed: int, of: AcceptanceField, most: int = MOST) -> Confidences:
    rng = np.random.default_rng(seed)
    texts, _, longest = of.accept.shape
    return Confidences(rng.random((texts, longest)), rng.random((texts, longest, most)))


fields = st.builds(
    field, st.integers(0, 10**6), texts=st.integers(1, 4), longest=st.integers(20, 30)
)


@given(fields, st.integers(0, MOST))
@PROPERTY
def test_a_fixed_k_is_what_replay_counts(of: AcceptanceField, k: int) -> None:
    drafting = fixed(of, k, MOST)
    assert drafting.rounds[k + 1 :].sum() == 0
    assert drafting.rounds.sum() + drafting.accepted == pytest.approx(
        (of.lengths - of.starts).sum()
    )
    if k:
        counts = expected_counts(of, k, "whole")
        assert drafting.rounds.sum() == pytest.approx(counts.total_rounds)
        assert drafting.rounds @ np.arange(MOST + 1) == pytest.approx(counts.drafted.sum())
        assert drafting.acceptance_length == pytest.approx(with_requests(counts, of).request_length)
    else:
        assert drafting.acceptance_length == 1


@given(fields, st.integers(0, 10**6))
@PROPERTY
def test_no_policy_beats_the_oracle(of: AcceptanceField, seed: int) -> None:
    top = oracle(of, MOST, ROUND_MS).speedup(ROUND_MS)
    sure = confidences(seed, of)
    others = [fixed(of, k, MOST) for k in range(MOST + 1)]
    others += [
        scheduled(of, 2, MOST),
        *(confident(of, sure, threshold, MOST) for threshold in (0.2, 0.5, 0.8)),
    ]
    assert all(policy.speedup(ROUND_MS) <= top + 1e-9 for policy in others)
    best = oracle(of, MOST, ROUND_MS)
    assert best.drafted == pytest.approx(best.acceptance_length - 1)


@given(fields, st.lists(st.floats(0.1, 30), min_size=MOST + 1, max_size=MOST + 1))
@PROPERTY
def test_no_fixed_k_beats_the_oracle_whatever_rounds_take(
    of: AcceptanceField, spent: list[float]
) -> None:
    top = oracle(of, MOST, spent.__getitem__)
    assert top.tokens == pytest.approx((of.lengths - of.starts).sum())
    least = top.milliseconds(spent.__getitem__)
    for k in range(MOST + 1):
        assert least <= fixed(of, k, MOST).milliseconds(spent.__getitem__) + 1e-6


def test_the_oracle_does_not_draft_where_drafts_cost_more_than_they_save() -> None:
    top = oracle(field(1), MOST, lambda drafted: 10 + 11 * drafted)
    assert top.drafted == 0


def test_at_temperature_0_the_oracle_is_the_shortest_of_all_paths() -> None:
    of = field(3, texts=4, longest=20, sure=True)
    spent = [10.0, 13.0, 19.0, 24.0, 38.0]
    for row in range(4):
        accepts, end = of.accept[row, 0], int(of.lengths[row])
        least = {end: 0.0}
        for start in range(end - 1, int(of.starts[row]) - 1, -1):
            ways = []
            for drafted in range(min(MOST, end - start - 1) + 1):
                run = accepts[start : start + drafted]
                taken = drafted if run.all() else int(np.argmin(run))
                ways.append(spent[drafted] + least[start + taken + 1])
            least[start] = min(ways)
        top = oracle(of.select(slice(row, row + 1)), MOST, spent.__getitem__)
        assert top.milliseconds(spent.__getitem__) == pytest.approx(least[int(of.starts[row])])


@given(fields, st.integers(0, 10**6))
@PROPERTY
def test_a_threshold_of_zero_never_stops_and_one_above_one_always_does(
    of: AcceptanceField, seed: int
) -> None:
    sure = confidences(seed, of)
    for threshold, k in ((0.0, MOST), (1.1, 1)):
        stopped, whole = confident(of, sure, threshold, MOST), fixed(of, k, MOST)
        np.testing.assert_allclose(stopped.rounds, whole.rounds)
        assert stopped.accepted == pytest.approx(whole.accepted)


@given(fields, st.integers(0, 10**6))
@PROPERTY
def test_a_higher_threshold_drafts_less(of: AcceptanceField, seed: int) -> None:
    sure = confidences(seed, of)
    lengths = [
        confident(of, sure, threshold, MOST).acceptance_length for threshold in (0.0, 0.4, 1.1)
    ]
    assert (
        lengths[-1] <= lengths[0] + 1
    )  # other rounds start elsewhere, so lengths need not fall one by one
    always = confident(of, sure, 1.1, MOST)
    assert always.rounds[2:].sum() == 0
    assert always.rounds[0] <= len(of.prompts)  # only a text's last token has nothing to draft


def play(
    of: AcceptanceField, row: int, sure: Confidences, threshold: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Rounds by drafts, and accepted tokens, of one text played draft by draft."""
    rounds, accepted, start = np.zeros(MOST + 1), 0, int(of.starts[row])
    while (left := int(of.lengths[row]) - start) > 0:
        drafted, taken, right = 0, 0, True
        behind = 0
        while drafted < min(MOST, left - 1):
            at = start + drafted
            if right and rng.random() >= of.accept[row, 0, at]:
                right, wrong = False, at
            confidence = sure.accepted[row, at] if right else sure.rejected[row, wrong, behind]
            behind += not right
            drafted += 1
            taken += right
            if confidence < threshold:
                break
        rounds[drafted] += 1
        accepted += taken
        start += taken + 1
    return rounds, accepted


@pytest.mark.parametrize("threshold", [0.3, 0.6])
def test_stopping_by_confidence_is_what_plays_of_it_come_to(threshold: float) -> None:
    of = field(7, texts=3)
    sure = confidences(8, of)
    rng, turns = np.random.default_rng(9), 4000
    for row in range(3):
        rows = slice(row, row + 1)
        expected = confident(of.select(rows), sure.select(rows), threshold, MOST)
        plays = [play(of, row, sure, threshold, rng) for _ in range(turns)]
        rounds = np.array([number for number, _ in plays])
        error = rounds.std(0) / np.sqrt(turns)
        assert (np.abs(rounds.mean(0) - expected.rounds) < 4 * error + 1e-9).all()
        accepted = np.array([number for _, number in plays])
        assert abs(accepted.mean() - expected.accepted) < 4 * accepted.std() / np.sqrt(turns)


def test_the_schedule_is_what_plays_of_it_come_to() -> None:
    of = field(3, texts=1, longest=60)
    rng, turns, first = np.random.default_rng(4), 4000, 3
    rounds, accepted = np.zeros((turns, MOST + 1)), np.zeros(turns)
    for turn in range(turns):
        start, k = int(of.starts[0]), first
        while (left := int(of.lengths[0]) - start) > 0:
            drafted = min(k, left - 1)
            taken = next(
                (step for step in range(drafted) if rng.random() >= of.accept[0, 0, start + step]),
                drafted,
            )
            rounds[turn, drafted] += 1
            accepted[turn] += taken
            start += taken + 1
            k = min(k + 2, MOST) if taken == k else max(k - 1, 1)
    expected = scheduled(of, first, MOST)
    assert (
        np.abs(rounds.mean(0) - expected.rounds) < 4 * rounds.std(0) / np.sqrt(turns) + 1e-9
    ).all()
    assert abs(accepted.mean() - expected.accepted) < 4 * accepted.std() / np.sqrt(turns)


def test_each_category_gets_its_own_k() -> None:
    of = field(0, texts=4)
    accept = of.accept.copy()
    accept[::2], accept[1::2] = 0.99, 0.01
    field_by_category = dataclasses.replace(of, accept=accept)
    chosen, together = per_category(field_by_category, ROUND_MS, range(1, MOST + 1), MOST)
    assert chosen == {"a": MOST, "b": 0}
    _, shared = best_fixed(field_by_category, ROUND_MS, range(1, MOST + 1), MOST)
    assert together.speedup(ROUND_MS) > shared.speedup(ROUND_MS)


def test_plain_decoding_is_the_best_fixed_k_of_a_dead_drafter() -> None:
    of = field(1)
    dead = dataclasses.replace(of, accept=of.accept * 0)
    k, drafting = best_fixed(dead, ROUND_MS, range(1, MOST + 1), MOST)
    assert k == 0
    assert drafting.speedup(ROUND_MS) == 1
    assert oracle(dead, MOST, ROUND_MS).speedup(ROUND_MS) == pytest.approx(1)


def test_many_texts_go_through_a_few_at_a_time() -> None:
    of = field(5, texts=300, longest=24)
    whole = fixed(of, 2, MOST)
    parts = [fixed(of.select(slice(begin, begin + 50)), 2, MOST) for begin in range(0, 300, 50)]
    assert whole.accepted == pytest.approx(sum(part.accepted for part in parts))


def test_prompt_lookup_drafts_what_it_has() -> None:
    of = field(6)
    some = np.random.default_rng(0).integers(0, 3, (5, 40))
    drafting = fixed(dataclasses.replace(of, available=some), MOST, MOST)
    assert drafting.rounds[3:].sum() == 0
    assert drafting.rounds[:3].all()


def test_a_confidence_stops_plain_draft_models_only() -> None:
    for of in (field(1, heads=2), dataclasses.replace(field(1), joint=True)):
        with pytest.raises(ValueError, match="without MTP heads"):
            confident(of, confidences(1, of), 0.5, MOST)


def test_times_follow_the_drafter() -> None:
    assert ROUND_MS(0) == 10
    assert ROUND_MS(4) == 22
    assert times(COSTS, 1, drafter="mtp")(1) == 12
    assert times(COSTS, drafter="prompt-lookup")(4) == pytest.approx(14.1)
    with pytest.raises(ValueError, match="target_ms"):
        times(CostProfile(verify={1: 1}, draft={}))
    with pytest.raises(CostError, match="not 8"):
        ROUND_MS(8)


def test_speedup_is_tokens_per_time_over_the_targets_own() -> None:
    drafting = Drafting(np.array([10.0, 0, 0, 0, 5.0]), 12.0)
    assert drafting.milliseconds(ROUND_MS) == pytest.approx(10 * 10 + 5 * 22)
    assert drafting.speedup(ROUND_MS) == pytest.approx(27 * 10 / 210)
    assert drafting.acceptance_length == pytest.approx(27 / 15)
    assert drafting.drafted == pytest.approx(20 / 15)


def test_texts_without_a_round_are_refused() -> None:
    with pytest.raises(MeasurementError, match="no text is long enough for a round of k=4"):
        policy_table(dataclasses.replace(field(1), lengths=np.full(5, 5)), COSTS, most=MOST)


def test_the_table_lists_every_policy_and_marks_the_best() -> None:
    of = field(2)
    rows = policy_table(of, COSTS, most=MOST, confidences=confidences(2, of))
    names = [row.name for row in rows]
    assert names[0].startswith("plain decoding")
    assert sum("(best fixed k)" in name for name in names) == 1
    assert sum("(best" in name for name in names if name.startswith("stop")) == 1
    assert names[-1] == "oracle"
    assert rows[-1].share == 1
    assert all(len(row.cells()) == len(HEADERS) for row in rows)
    without = policy_table(of, COSTS, most=MOST)
    assert not any(row.name.startswith("stop") for row in without)


def test_policies_and_advice_need_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = sys.modules['pytest'] = "
        "None\n"
        "import numpy as np\n"
        "from pytest_specdec import CostProfile, advise, policy_table\n"
        "from pytest_specdec.acceptance.renewal import AcceptanceField\n"
        "field = AcceptanceField(('a',), ('all',), np.full((1, 1, 30), 0.7), np.array([2]), "
        "np.array([30]))\n"
        "costs = CostProfile(target_ms=10, verify={1: 11, 4: 14}, draft={0: {1: 2, 4: 8}})\n"
        "assert policy_table(field, costs, most=4)[-1].name == 'oracle'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def parts(of: AcceptanceField, k: int) -> list[Drafting]:
    return [fixed(of.select(slice(row, row + 1)), k, MOST) for row in range(len(of.prompts))]


def test_a_gain_has_the_interval_of_a_jackknife_over_prompts() -> None:
    of = field(5, texts=60)
    estimate = gain(parts(of, 4), parts(of, 1), ROUND_MS)
    assert estimate.ratio == pytest.approx(
        fixed(of, 4, MOST).speedup(ROUND_MS) / fixed(of, 1, MOST).speedup(ROUND_MS)
    )
    left_out = []
    for row in range(60):
        rest = of.select(np.array([other for other in range(60) if other != row]))
        left_out.append(
            np.log(fixed(rest, 4, MOST).speedup(ROUND_MS) / fixed(rest, 1, MOST).speedup(ROUND_MS))
        )
    error = np.sqrt(59 / 60 * ((np.array(left_out) - np.mean(left_out)) ** 2).sum())
    low, high = estimate.interval
    assert np.log(high / low) == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert low * high == pytest.approx(estimate.ratio**2)


def test_the_error_of_the_times_widens_a_gain_only_where_time_goes_elsewhere() -> None:
    of = field(6)
    same = gain(parts(of, 4), parts(of, 4), ROUND_MS, 0.1)
    assert same.ratio == 1
    assert same.interval == pytest.approx((1, 1))
    sure, unsure = (
        gain(parts(of, 4), parts(of, 0), ROUND_MS, error).interval for error in (0.0, 0.1)
    )
    assert unsure[0] < sure[0] < sure[1] < unsure[1]


@pytest.mark.parametrize("sure", [False, True])
def test_the_best_dynamic_policy_has_its_gain_over_the_best_fixed_k(sure: bool) -> None:
    of = field(7, texts=6)
    rows = policy_table(of, COSTS, most=MOST, confidences=confidences(7, of) if sure else None)
    (row,) = (row for row in rows if row.gain is not None)
    assert row.speedup == max(policy_row.speedup for policy_row in rows[MOST + 1 : -1])
    assert row.gain is not None
    assert row.gain.ratio == pytest.approx(
        row.speedup / max(policy_row.speedup for policy_row in rows[: MOST + 1])
    )
    assert row.gain.interval[0] <= row.gain.ratio <= row.gain.interval[1]
    assert all(
        policy_row.gain is None for policy_row in policy_table(field(7, texts=1), COSTS, most=MOST)
    )
