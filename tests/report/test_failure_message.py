"""The message of a failed gate: every fact that a reader needs, and the loss named where it
sits.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from helpers.judged import judge_records
from helpers.records import record, scaled, steady_counts

from pytest_specdec.acceptance.counts import Counts
from pytest_specdec.gate.erosion import erosion_of, judge_erosion
from pytest_specdec.gate.verdict import Estimate, Regime, Verdict
from pytest_specdec.records.conditions import Fingerprints
from pytest_specdec.report.failure_message import explain, headline, summary

UPDATE = "pytest suites --specdec-update=changed"
NAMES = {f"p{row}": f"'prompt number {row}'" for row in range(12)}


def planted(*, position: int = 1, rows: range = range(1, 12, 2), factor: float = 0.8) -> Counts:
    """Conditional acceptance at one position (from 0) lowered in some prompts; odd rows are of
    category `code`.
    """
    now = steady_counts()
    now.accepted[rows, position:] *= factor
    return now


def lines_of(verdict: Verdict) -> dict[str, list[str]]:
    """The message by its labels; the headline under an empty one."""
    by_label: dict[str, list[str]] = {}
    for line in explain(
        verdict, case_id="text/draft-k3-depth0-t1", update_command=UPDATE, prompt_names=NAMES
    ):
        label, text = ("", line) if not line.startswith("  ") else (line[2:12].strip(), line[13:])
        by_label.setdefault(label, []).append(text)
    return by_label


def judged(now: Counts, **changed: Any) -> Verdict:
    return judge_records(record(now, **changed), record(), margin=0.005)


def test_the_headline_has_metric_before_after_change_interval_and_limit() -> None:
    verdict = judged(planted())
    before, now = steady_counts().acceptance_length, planted().acceptance_length
    assert verdict.interval is not None
    low, high = verdict.interval
    assert headline(verdict) == (
        f"acceptance_length regressed: {before:.4f} -> {now:.4f} "
        f"({(now - before) / before * 100:+.2f} %; "
        f"95 % interval {-high * 100:+.2f} % to {-low * 100:+.2f} %), fails from -0.01 %"
    )


def test_the_headline_of_new_texts_has_the_p_value() -> None:
    verdict = judge_records(
        record(scaled(steady_counts(), 0.9), text="text-2"), record(), margin=0.005
    )
    assert verdict.p_value is not None
    assert f"; p = {verdict.p_value:.2g})" in headline(verdict)


def test_the_headline_of_one_prompt_has_no_interval() -> None:
    single = steady_counts(1)
    verdict = judge_records(record(scaled(single, 0.9)), record(single), margin=0.005)
    assert "interval" not in headline(verdict)
    assert "acceptance_length regressed: 2.5000 -> 2.3500 (-6.00 %)" in headline(verdict)


FELL_AT = "conditional acceptance fell at "


@pytest.mark.parametrize(
    ("position", "change"),
    [
        (0, "1 (0.750 -> 0.600, -20.00 %)"),
        (1, "2 (0.667 -> 0.533, -20.00 %)"),
        (2, "3 (0.500 -> 0.400, -20.00 %)"),
    ],
)
def test_a_planted_loss_shows_at_its_position_alone(position: int, change: str) -> None:
    assert lines_of(judged(planted(position=position, rows=range(12))))["positions"] == [
        FELL_AT + change
    ]


def test_the_worst_positions_are_named_worst_first() -> None:
    before = steady_counts(shares=[0.9 - 0.1 * step for step in range(8)])
    now = steady_counts(shares=[0.9 - 0.1 * step for step in range(8)])
    for position, factor in ((1, 0.9), (3, 0.95), (4, 0.7), (6, 0.8)):
        now.accepted[:, position:] *= factor
    (text,) = lines_of(judge_records(record(now), record(before), margin=0.005))["positions"]
    named = [part.split(" (")[0] for part in text.removeprefix(FELL_AT).split("), ")]
    assert named == ["5", "7", "2"]


def test_prompts_that_lost_nothing_are_not_named() -> None:
    assert lines_of(judged(planted(rows=range(5, 6))))["lost most"] == [
        "'prompt number 5' (code): 2.50 -> 2.35"
    ]


@pytest.mark.parametrize(
    ("rows", "category"), [(range(1, 12, 2), "code"), (range(0, 12, 2), "prose")]
)
def test_the_category_with_the_planted_loss_is_named_first(rows: range, category: str) -> None:
    (text,) = lines_of(judged(planted(rows=rows)))["categories"]
    first, second = text.split(", ")
    assert first.startswith(f"{category} -")
    assert second.endswith(" +0.00 %")


def test_the_prompts_that_lost_most_are_named_worst_first() -> None:
    now = steady_counts()
    for row, factor in ((7, 0.2), (3, 0.5), (10, 0.7)):
        now.accepted[row] *= factor
    assert lines_of(judged(now))["lost most"] == [
        "'prompt number 7' (code): 2.50 -> 1.30",
        "'prompt number 3' (code): 2.50 -> 1.75",
        "'prompt number 10' (prose): 2.50 -> 2.05",
    ]


def test_a_prompt_without_a_name_is_called_by_its_key() -> None:
    lines = explain(
        judged(planted(rows=range(5, 6))), case_id="c", update_command=UPDATE, prompt_names={}
    )
    assert any(line.startswith("  lost most  p5 (code)") for line in lines)


def test_the_roles_that_changed_are_named() -> None:
    changed = record().fingerprints.__class__(target="target-2", drafter="drafter-2")
    (text,) = lines_of(judged(planted(), fingerprints=changed))["changed"]
    assert text == (
        "target weights or configuration (target-1 -> target-2); drafter weights or configuration "
        "(drafter-1 -> drafter-2)"
    )


def test_a_loss_without_a_change_points_at_the_code() -> None:
    assert lines_of(judged(planted()))["changed"] == [
        "neither models nor environment: look at the code"
    ]


def test_case_reason_and_update_command_are_there() -> None:
    verdict = judged(planted())
    by_label = lines_of(verdict)
    assert by_label["case"] == [f"text/draft-k3-depth0-t1: {verdict.reason}"]
    assert by_label["intended?"] == [UPDATE]
    assert "detectable" not in by_label


def test_new_texts_say_what_could_have_been_seen() -> None:
    verdict = judge_records(record(planted(), text="text-2"), record(), margin=0.005)
    assert verdict.smallest_detectable_drop is not None
    promise = (
        f"a drop of {verdict.smallest_detectable_drop * 100:.2f} % at 80 % power with 12 prompts"
    )
    assert lines_of(verdict)["detectable"] == [promise]
    assert lines_of(verdict)["test"] == [
        "the largest standardised drop is that of the acceptance length"
    ]


def test_the_test_names_the_position_that_fell_most() -> None:
    """Chance in the first position drowns the length's drop, and none is in the last one's."""
    before = steady_counts(24)
    before.accepted[:, 0] += np.random.default_rng(1).normal(0, 3, 24)
    now = steady_counts(24)
    now.accepted[:, 2] *= 0.8
    verdict = judge_records(record(now, text="text-2"), record(before), margin=0.005)
    assert lines_of(verdict)["test"] == [
        "the largest standardised drop is that of survival at position 3"
    ]


def test_a_gate_without_power_says_so() -> None:
    nothing = dataclasses.replace(
        judge_records(record(planted(), text="text-2"), record(), margin=0.005),
        smallest_detectable_drop=None,
    )
    assert lines_of(nothing)["detectable"] == ["no drop has 80 % power with 12 prompts"]


def test_an_error_needs_no_numbers() -> None:
    by_label = lines_of(judged(planted(), rule="greedy"))
    assert by_label == {
        "": ["acceptance_length error: rule was 'rejection' in the baseline and is 'greedy'"],
        "case": ["text/draft-k3-depth0-t1"],
        "intended?": [UPDATE],
    }


def test_prompts_of_one_category_are_listed_without_it() -> None:
    before = dataclasses.replace(steady_counts(), categories=("all",) * 12)
    now = dataclasses.replace(planted(rows=range(5, 6)), categories=("all",) * 12)
    by_label = lines_of(judge_records(record(now), record(before), margin=0.005))
    assert by_label["lost most"] == ["'prompt number 5': 2.50 -> 2.35"]
    assert "categories" not in by_label


def test_a_missing_baseline_has_the_command_that_creates_it() -> None:
    missing = Verdict(outcome="error", metric="acceptance_length", reason="no baseline")
    lines = explain(
        missing, case_id="text/case", update_command=UPDATE, prompt_names={}, has_baseline=False
    )
    assert lines == [
        "acceptance_length error: no baseline",
        "  case       text/case",
        f"  create     {UPDATE}",
    ]


def test_an_undecided_gate_names_the_option_that_lets_it_pass() -> None:
    lines = lines_of(dataclasses.replace(judged(planted()), outcome="inconclusive"))
    assert lines["undecided"] == ["--specdec-inconclusive=warn lets such gates pass"]
    assert lines["intended?"] == [UPDATE]
    assert "undecided" not in lines_of(judged(planted()))


def test_replaced_models_are_to_be_named_in_the_tests() -> None:
    lines = explain(
        judged(planted()),
        case_id="text/case",
        update_command=UPDATE,
        prompt_names=NAMES,
        replaced_models={"target": "target='old'", "drafter": "specdec_draft = old"},
    )
    assert lines[-2:] == [
        "  afterwards target='old' still names the old target, which a run without "
        "--specdec-target would measure; change it, too",
        "  afterwards specdec_draft = old still names the old drafter, which a run without "
        "--specdec-draft would measure; change it, too",
    ]


def test_a_renamed_category_is_explained_under_its_new_name() -> None:
    now = dataclasses.replace(scaled(steady_counts(), 0.9), categories=("fiction", "code") * 6)
    assert "fiction" in str(lines_of(judge_records(record(now), record(), margin=0.005)))


def test_a_category_without_rounds_is_left_out() -> None:
    before = steady_counts()
    for array in (before.rounds, before.drafted, before.accepted):
        array[1::2] = 0
    assert "nan" not in str(
        lines_of(judge_records(record(scaled(before, 0.9)), record(before), margin=0.005))
    )


def test_nothing_changed_is_not_called_a_loss() -> None:
    assert "-0.00" not in headline(judge_records(record(), record(), margin=0.005))


COMMIT = "1a2b3c4d5e" * 4
FORGET = "python -m pytest_specdec baseline forget-erosion baselines/text/case.json"
FALLEN = scaled(steady_counts(), 0.995)


def eroded(limit: float | None, now: Counts = FALLEN) -> Verdict:
    """The verdict on a run whose baseline is 2.44 % below the one before it."""
    before = msgspec.structs.replace(
        record(), replaced=(record(scaled(steady_counts(), 1.04)).as_replaced(COMMIT),)
    )
    fingerprints = Fingerprints(target="target-1", drafter="drafter-2")
    run = record(now, fingerprints=fingerprints)
    verdict = judge_records(run, before, margin=0.005)
    return judge_erosion(verdict, erosion_of(verdict, run.as_measured(), before), limit)


def message(verdict: Verdict) -> list[str]:
    return explain(
        verdict,
        case_id="text/case",
        update_command=UPDATE,
        prompt_names=NAMES,
        forget_command=FORGET,
    )


def test_erosion_alone_has_a_headline_a_reason_and_a_cure_of_its_own() -> None:
    verdict = eroded(0.02)
    lines = message(verdict)
    assert headline(verdict) == lines[0]
    assert lines[0].startswith("acceptance_length regressed: 2.5000 -> 2.4925 (-0.30 %; 95 % ")
    assert lines[0].endswith(", erosion -2.64 %, fails from -2.00 %")
    assert lines[1] == (
        "  case       text/case: the acceptance length has eroded: it is 2.64 % below the best of "
        "the last 2 baselines (length 2.5600 at commit 1a2b3c4d5)"
    )
    assert lines[2].startswith("  changed    drafter weights or configuration (")
    assert lines[3:] == [f"  intended?  {FORGET}"]
    assert summary(verdict) == (
        "acceptance_length regressed -0.30 %, erosion -2.64 %: 2.500 -> 2.493"
    )


def test_erosion_of_an_unchanged_run_is_that_of_earlier_updates() -> None:
    verdict = dataclasses.replace(eroded(0.02), changed=())
    assert lines_of(verdict)["changed"] == [
        "neither models nor environment since the last update; the loss is that of earlier updates"
    ]


def test_a_regression_that_has_eroded_too_has_both_cures() -> None:
    verdict = eroded(0.02, scaled(steady_counts(), 0.9))
    assert not verdict.eroded
    lines = message(verdict)
    assert "erosion" not in lines[0]
    erosion = "8.20 % below the best of the last 2 baselines (length 2.5600 at commit 1a2b3c4d5)"
    assert f"  erosion    {erosion}" in lines
    assert lines[-2:] == [f"  intended?  {UPDATE}", f"  and then   {FORGET}"]


def test_erosion_without_a_limit_is_a_line_of_a_regression() -> None:
    lines = lines_of(eroded(None, scaled(steady_counts(), 0.9)))
    assert lines["erosion"][0].startswith("8.20 % below")
    assert lines["intended?"] == [UPDATE]


ESTIMATE = Estimate(
    name="in the same contexts",
    before=3.0,
    now=2.9,
    drop=1 / 30,
    interval=(0.02, 0.045),
    effective_share=0.976,
)


def decided(regime: Regime, estimate: Estimate | None, **changed: Any) -> Verdict:
    return dataclasses.replace(judged(planted()), regime=regime, estimate=estimate, **changed)


def test_a_changed_target_is_reported_by_what_decided_and_by_fresh_texts() -> None:
    verdict = decided("target changed", ESTIMATE)
    assert headline(verdict).startswith(
        "acceptance_length regressed (in the same contexts): 3.0000 -> 2.9000 (-3.33 %; "
        "95 % interval -4.50 % to -2.00 %)"
    )
    assert summary(verdict) == (
        "acceptance_length regressed -3.33 % (in the same contexts): 3.000 -> 2.900"
    )
    lines = lines_of(verdict)
    assert lines["judged"] == [
        "in the same contexts: rounds from all positions of the old target's texts (effective "
        "sample size: 98 % of them); these lengths are not those of whole texts"
    ]
    assert lines["fresh"][0].startswith(
        "whole texts, the old target's and the new one's: "
        f"{verdict.before:.4f} -> {verdict.now:.4f} ("
    )
    assert "unseen" not in lines


def test_what_the_old_target_could_not_emit_is_bounded() -> None:
    verdict = decided("target changed", dataclasses.replace(ESTIMATE, unseen=0.004))
    assert "+0.40 % at most" in lines_of(verdict)["unseen"][0]


def test_a_greedy_drafter_is_reported_by_smoothed_and_exact_counts() -> None:
    smooth = dataclasses.replace(ESTIMATE, name="smoothed at temperature 0.1", effective_share=None)
    lines = lines_of(decided("greedy drafter changed", smooth))
    assert lines["judged"] == [
        "smoothed at temperature 0.1: exact counts jump where a near-tie of the draft flips; the "
        "lines exact, tokens and contexts are not smoothed"
    ]
    assert "2.5000 -> " in lines["exact"][0]


@pytest.mark.parametrize(
    "regime", [regime for regime in get_args(Regime) if "changed" not in regime]
)
def test_every_other_regime_says_how_it_is_judged(regime: Regime) -> None:
    (line,) = lines_of(decided(regime, None))["judged"]
    assert line.startswith(("exactly", "on the same texts", "on each run's own texts"))
