"""The engines' rules in `benchmarks/field_rules.py` do what the page says of them, and its recorded
counts are what they claim to be.
"""

from __future__ import annotations

import dataclasses

import field_rules
import numpy as np
import pytest
from field_recording import ENDED, PROMPTS, RUNS, TEMPERATURES, K, Recording, counts_of, thinned
from field_rules import MARGINS, SIZES, STATISTICS, Fails, Size, gates
from helpers.records import scaled, steady_counts
from helpers.support import ROOT
from marked_page import replaced

from pytest_specdec.acceptance.counts import Counts

REFERENCE = steady_counts(prompts=12)
"""Acceptance length 2.5, acceptance rate 0.5."""
FLOORS = (
    field_rules.two_sided_with_positions,
    field_rules.mean_of_prompts,
    field_rules.best_attempt,
)


def with_length(share: float) -> Counts:
    """A run whose acceptance length is a share of the reference's."""
    return scaled(REFERENCE, (share * REFERENCE.acceptance_length - 1) / 1.5)


@pytest.mark.parametrize("fails", FLOORS)
def test_a_floor_fails_below_95_percent_of_the_reference(fails: Fails) -> None:
    assert fails(REFERENCE, [with_length(0.949)])
    assert not fails(REFERENCE, [REFERENCE])


def test_a_floor_of_the_length_passes_a_drop_of_4_percent() -> None:
    assert not field_rules.mean_of_prompts(REFERENCE, [with_length(0.96)])
    assert not field_rules.best_attempt(REFERENCE, [with_length(0.96)])


def test_vllms_tolerance_fails_gains_and_single_positions() -> None:
    fails = field_rules.two_sided_with_positions
    assert fails(REFERENCE, [with_length(1.051)])
    assert not fails(REFERENCE, [with_length(1.049)])
    for share, failed in ((0.94, True), (0.96, False)):
        accepted = REFERENCE.accepted * np.array([1, 1, share])
        assert fails(REFERENCE, [dataclasses.replace(REFERENCE, accepted=accepted)]) == failed


def test_vllms_mean_weighs_prompts_alike() -> None:
    """A prompt with a hundred times the rounds loses everything: the mean of 12 prompts hardly
    moves.
    """
    weights = np.where(np.arange(12) == 0, 100, 1)[:, None]
    many = dataclasses.replace(
        REFERENCE,
        rounds=REFERENCE.rounds * weights[:, 0],
        drafted=REFERENCE.drafted * weights,
        accepted=REFERENCE.accepted * weights,
    )
    now = dataclasses.replace(many, accepted=many.accepted * (weights == 1))
    assert field_rules.best_attempt(many, [now])
    assert not field_rules.mean_of_prompts(many, [now])


def test_one_of_three_attempts_is_enough_for_sglang() -> None:
    low = with_length(0.5)
    assert not field_rules.best_attempt(REFERENCE, [low, low, REFERENCE])
    assert field_rules.best_attempt(REFERENCE, [low, low, low])


def test_tensorrt_llms_floor_is_15_percent_of_drafted_tokens() -> None:
    assert field_rules.accepts_little(REFERENCE, [scaled(REFERENCE, 0.29)])
    assert not field_rules.accepts_little(REFERENCE, [scaled(REFERENCE, 0.31)])


@pytest.mark.parametrize("kind", TEMPERATURES)
def test_the_recorded_rounds_are_whole(kind: str) -> None:
    accepted = Recording.load(kind).accepted
    assert accepted.shape[:2] == (RUNS, PROMPTS)
    assert set(np.unique(accepted)) == {ENDED, *range(K + 1)}
    ended = accepted == ENDED
    assert (np.diff(ended.astype(int), axis=-1) >= 0).all()  # once ended, a text stays ended
    assert not ended[..., 0].any()
    assert len(np.unique(accepted, axis=0)) == RUNS  # no two runs are equal


@pytest.mark.parametrize("drop", [0.02, 0.2])
def test_thinning_lowers_the_acceptance_length_by_the_drop(drop: float) -> None:
    recording = Recording.load("sampled")
    rounds = recording.accepted.reshape(RUNS * PROMPTS, -1)
    whole = counts_of(rounds)
    worse = counts_of(thinned(np.random.default_rng(0), rounds, recording.lost_share(drop)))
    assert worse.acceptance_length / whole.acceptance_length == pytest.approx(1 - drop, abs=0.003)


def test_a_comparison_takes_other_runs_of_the_same_prompts() -> None:
    """Run r of prompt p accepts p + 1 tokens in r + 1 rounds."""
    accepted = np.full((4, K, 4), ENDED, dtype=np.int8)
    for run in range(4):
        for prompt in range(K):
            accepted[run, prompt, : run + 1] = prompt + 1
    reference, attempts = Recording(accepted).comparison(
        np.random.default_rng(0), prompts=50, attempts=3
    )
    prompts = [run.accepted.sum(1) / run.rounds for run in (reference, *attempts)]
    assert all((prompts[0] == row).all() for row in prompts[1:])
    rounds = np.sort([run.rounds for run in (reference, *attempts)], axis=0)
    assert (rounds == np.arange(1, 5)[:, None]).all()


def test_shortened_texts_keep_whole_rounds_of_their_first_tokens() -> None:
    accepted = np.array([[[2, 0, 3, 1, ENDED]]], dtype=np.int8)  # emits 3, 1, 4 and 2 tokens
    assert Recording(accepted).shortened(8).accepted.tolist() == [[[2, 0, 3, ENDED, ENDED]]]


def test_the_gates_margin_is_the_one_it_is_named_for() -> None:
    recording = Recording.load("sampled")
    lost = recording.lost_share(0.04)
    reference, attempts = recording.comparison(np.random.default_rng(0), prompts=500, lost=lost)
    assert list(gates(reference, attempts).values()) == [True, False]


def test_every_rule_judges_every_pair() -> None:
    size = Size(prompts=20, rules=STATISTICS, gate_draws=2)
    shares = size.shares(Recording.load("sampled"), 0.5, draws=4)
    assert shares == dict.fromkeys([*STATISTICS, *MARGINS], 1.0)


def test_the_page_shows_every_rule() -> None:
    page = (ROOT / "docs" / "gate-your-own-counts.md").read_text()
    tables = field_rules.MARKED.search(page)
    assert tables is not None
    names = {name for size in SIZES for name in size.rules} | set(MARGINS)
    assert [name for name in sorted(names) if f"| {name} |" not in tables[0]] == []
    assert replaced(page, field_rules.MARKED, "new").count("new\n<!-- field_rules.py ends -->") == 1


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(SystemExit, match="expected one pair of marks"):
        replaced("no marks", field_rules.MARKED, "new")
