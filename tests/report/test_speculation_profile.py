"""The profile of a draft checkpoint: the numbers of the report under the schema's names."""

from __future__ import annotations

import json

import pytest
from helpers.report_rows import session_rows

from pytest_specdec.report import render
from pytest_specdec.report.speculation_profile import method_of, speculation_profile

ROWS = json.loads(render(".json", session_rows(16)))["cases"]
ROW = next(row for row in ROWS if row["id"] == "text/draft-k4-depth0-t1")


def test_rates_are_conditional_and_marginal_by_position() -> None:
    profile = speculation_profile(ROW, ROWS, "draft_model")
    assert profile["conditional_accept_rates"] == pytest.approx(ROW["conditional"], abs=1e-6)
    assert profile["marginal_accept_rates"] == pytest.approx(ROW["survival"], abs=1e-6)
    assert (profile["num_speculative_tokens"], profile["schema_version"]) == (4, "1.0")
    assert profile["mean_accept_length"] == pytest.approx(ROW["acceptance_length"], abs=1e-6)


def test_the_histogram_has_the_rounds_and_their_mean() -> None:
    histogram = speculation_profile(ROW, ROWS, "draft_model")["acceptance_length_histogram"]
    assert list(histogram) == ["1", "2", "3", "4", "5"]
    assert sum(histogram.values()) == pytest.approx(ROW["rounds"], rel=1e-4)
    mean = sum(int(length) * rounds for length, rounds in histogram.items()) / ROW["rounds"]
    assert mean == pytest.approx(ROW["acceptance_length"], rel=1e-4)


def test_rounds_that_draft_fewer_tokens_have_no_histogram_and_fail_the_check() -> None:
    profile = speculation_profile({**ROW, "acceptance_length": 1.5}, ROWS, "draft_model")
    assert profile["acceptance_length_histogram"] is None
    assert not profile["validation"]["mean_consistency"]["passed"]


def test_the_checks_of_the_schema_are_computed() -> None:
    checks = speculation_profile(ROW, ROWS, "draft_model")["validation"]
    assert checks["mean_consistency"]["passed"]
    assert checks["marginal_monotonicity"] == {"passed": True, "violations": []}
    rising = {**ROW, "survival": [0.5, 0.6, 0.1, 0.1]}
    checks = speculation_profile(rising, ROWS, "draft_model")["validation"]
    assert checks["marginal_monotonicity"]["violations"] == [
        {"position": 1, "value": 0.6, "previous": 0.5}
    ]


def test_lengths_of_other_k_are_those_of_the_same_depth_alone() -> None:
    lengths = speculation_profile(ROW, ROWS, "draft_model")["accept_length_by_k"]
    assert lengths == {
        str(row["k"]): round(row["acceptance_length"], 6)
        for row in sorted(ROWS, key=lambda row: row["k"])
        if row["depth"] == 0
    }
    other = {**ROW, "id": ROW["id"] + "-top_k3", "k": 3}
    assert "3" not in speculation_profile(ROW, [*ROWS, other], "draft_model")["accept_length_by_k"]


@pytest.mark.parametrize(
    ("method", "depth", "model"),
    [
        ("draft_model", 0, "chain_analytic"),
        ("eagle3", 0, "chain_analytic"),
        ("draft_model", 3, "measured_per_k"),
        ("mtp", 1, "measured_per_k"),
    ],
)
def test_only_chains_extrapolate(method: str, depth: int, model: str) -> None:
    profile = speculation_profile({**ROW, "depth": depth}, ROWS, method)
    assert profile["accept_length_model"] == model


def test_block_verification_has_no_rates() -> None:
    profile = speculation_profile({**ROW, "rule": "block"}, ROWS, "draft_model")
    assert profile["conditional_accept_rates"] is profile["marginal_accept_rates"] is None
    assert "longest prefix" in profile["vectors_unavailable_reason"]


def test_folders_of_the_machine_are_not_published() -> None:
    row = {**ROW, "drafter": "/secret/folder/org/draft", "target": "org/target"}
    profile = speculation_profile(row, ROWS, "draft_model")
    assert profile["draft_checkpoint"] == {"id": "org/draft"}
    assert profile["target_model"] == {"id": "org/target"}
    assert "secret" not in json.dumps(profile)


def test_methods_without_a_checkpoint_are_known() -> None:
    assert [method_of({"drafter": name}) for name in ("mtp", "prompt-lookup", "x/y")] == [
        "mtp",
        "ngram",
        None,
    ]
