"""OpenVINO GenAI: what its metrics report, and what they leave out. The recorded ones are those of a
real run.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from helpers.real_engine import case, installed, real
from helpers.reports import reported, request
from helpers.support import ROOT

from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.engines.adapter_api import EngineSetup, Totals
from pytest_specdec.engines.adapters.openvino import (
    CONVENTION,
    OpenVinoAdapter,
    Passes,
    passes_of,
    rounds_of,
)
from pytest_specdec.engines.counting.checks import check_reported
from pytest_specdec.engines.model_checks import oracle

RECORDED = json.loads((ROOT / "tests/engines/payloads/openvino_metrics.json").read_text())[
    "requests"
]


@pytest.mark.parametrize("recorded", RECORDED)
def test_the_accessors_leave_out_the_last_round_and_the_identity_finds_it(recorded: dict) -> None:
    right = rounds_of(
        Passes(recorded["m_batch_sizes"], recorded["get_num_draft_tokens"]),
        recorded["emitted"],
        3,
        "request 1",
    )
    whole_text = reported(list(right), convention=CONVENTION)
    check_reported(whole_text, request())
    totals = Totals(
        rounds=len(right) - 1,
        drafted=recorded["get_num_draft_tokens"],
        accepted=recorded["get_num_accepted_tokens"],
    )
    assert totals.accepted == sum(accepted for _, accepted in right[:-1])
    with pytest.raises(MeasurementError, match=r"passes of m_batch_sizes .* leave rounds out"):
        check_reported(reported(None, recorded["emitted"], CONVENTION, totals=totals), request())


def test_near_the_end_no_more_is_drafted_than_can_be_emitted() -> None:
    assert rounds_of(Passes([1, 4, 1, 1], 4), 7, 3, "r") == [(3, 3), (1, 0), (0, 0)]


@pytest.mark.parametrize(
    ("sizes", "drafted", "emitted", "problem"),
    [
        ([1, 4, 4], 3, 8, "adds up to 9 in 3 passes and 8 tokens were emitted"),
        ([2, 4], 3, 6, "adds up to 6"),
        ([1, 0, 4], 3, 5, "adds up to 5"),
        ([], 0, 4, "in 0 passes"),
        (
            [1, 4, 4, 4],
            5,
            13,
            "get_num_draft_tokens is 5, and 3 rounds of k=3 draft 9 tokens, 6 without the last",
        ),
    ],
)
def test_metrics_that_contradict_the_text_are_refused(
    sizes: list[int], drafted: int, emitted: int, problem: str
) -> None:
    with pytest.raises(MeasurementError, match=f"{problem}.*report this version of openvino-genai"):
        rounds_of(Passes(sizes, drafted), emitted, 3, "prompt 1")


@pytest.mark.parametrize("metrics", [None, SimpleNamespace(main_model_metrics=None)])
def test_a_pipeline_without_metrics_is_refused(metrics: object) -> None:
    with pytest.raises(
        MeasurementError,
        match=r"prompt 1: no extended_perf_metrics .* install openvino-genai 2026.4 or later",
    ):
        passes_of(metrics, "prompt 1")


@pytest.mark.skipif(installed("openvino"), reason="openvino_genai is installed here")
def test_without_the_package_the_error_says_what_to_install() -> None:
    with pytest.raises(RequestError, match="pip install openvino-genai"):
        OpenVinoAdapter(EngineSetup())


def test_the_real_engine_counts_what_its_models_imply() -> None:
    engine = real("openvino")
    agreement = oracle(engine, case("openvino", k=4), 0.01)
    assert agreement.exact
    assert agreement.agrees, agreement.message


def test_sampling_is_refused() -> None:
    """Its passes then add up to more than the text."""
    engine = real("openvino")
    with pytest.raises(RequestError, match="decodes greedily here; use --specdec-temperature=0"):
        engine.measure(case("openvino", temperature=1.0))
