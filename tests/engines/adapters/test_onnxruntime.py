"""ONNX Runtime GenAI: rounds from its growing statistics. The recorded ones are those of a real
run.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.real_engine import case, installed, real
from helpers.reports import reported, request
from helpers.support import ROOT

from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.engines.adapter_api import EngineSetup
from pytest_specdec.engines.adapters.onnxruntime import (
    CONVENTION,
    OnnxRuntimeAdapter,
    join,
    rounds_of,
)
from pytest_specdec.engines.counting.checks import check_reported
from pytest_specdec.engines.model_checks import conformance, oracle

RECORDED = json.loads((ROOT / "tests/engines/payloads/onnxruntime_stats.json").read_text())[
    "requests"
]


@pytest.mark.parametrize("recorded", RECORDED)
def test_recorded_statistics_give_every_round(recorded: dict) -> None:
    rounds, last = rounds_of(recorded["stats"], "request 1"), recorded["stats"][-1]
    assert len(rounds) == last["rounds"]
    assert sum(played.drafted for played in rounds) == last["draft_tokens_proposed"]
    assert sum(played.accepted for played in rounds) == last["draft_tokens_accepted"]
    check_reported(reported(list(rounds), recorded["emitted"], CONVENTION), request())
    emitted_tokens = sum(played.accepted + 1 for played in rounds)
    assert emitted_tokens - recorded["emitted"] == last["tokens_discarded"]
    # Its own rate is of another denominator.
    assert last["acceptance_rate"] == pytest.approx(
        last["draft_tokens_accepted"] / last["draft_tokens_evaluated"]
    )
    assert last["acceptance_rate"] > last["draft_tokens_accepted"] / last["draft_tokens_proposed"]


def _stats(*rows: tuple[int, int, int]) -> list[dict[str, int]]:
    return [
        dict(zip(("rounds", "draft_tokens_proposed", "draft_tokens_accepted"), row, strict=True))
        for row in rows
    ]


@pytest.mark.parametrize("rows", [[(2, 6, 1)], [(1, 3, 1), (1, 3, 2)], [(1, 3, 1), (0, 0, 0)]])
def test_statistics_that_grow_otherwise_are_refused(rows: list[tuple[int, int, int]]) -> None:
    with pytest.raises(
        MeasurementError, match=r"request 1, token .: rounds grows by .* report this version"
    ):
        rounds_of(_stats(*rows), "request 1")


def test_statistics_without_a_counter_are_refused() -> None:
    with pytest.raises(
        MeasurementError, match=r"has no 'draft_tokens_proposed'; install onnxruntime-genai 0.18"
    ):
        rounds_of([{"rounds": 1}], "request 1")


def _decoder(folder: Path, name: str) -> Path:
    folder.mkdir()
    (folder / "genai_config.json").write_text(
        json.dumps({"model": {"decoder": {"filename": name}, "eos_token_id": 1}, "search": {}})
    )
    (folder / name).write_bytes(b"graph")
    return folder


def test_a_pair_becomes_one_folder(tmp_path: Path) -> None:
    target, draft = _decoder(tmp_path / "t", "model.onnx"), _decoder(tmp_path / "d", "small.onnx")
    (tmp_path / "both").mkdir()
    join(target, draft, tmp_path / "both", 7)
    model_config = json.loads((tmp_path / "both" / "genai_config.json").read_text())["model"]
    assert model_config["eos_token_id"] == 7
    for part in ("decoder", "draft"):
        assert (tmp_path / "both" / model_config[part]["filename"]).read_bytes() == b"graph"
        assert model_config[part]["session_options"]["intra_op_num_threads"] >= 1


@pytest.mark.parametrize("text", ["{", "[]", '{"model": {}}'])
def test_a_folder_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    target, draft = _decoder(tmp_path / "t", "model.onnx"), _decoder(tmp_path / "d", "model.onnx")
    (draft / "genai_config.json").write_text(text)
    (tmp_path / "both").mkdir()
    with pytest.raises(
        RequestError, match=r"describes no plain decoder .* build it again with onnxruntime-genai"
    ):
        join(target, draft, tmp_path / "both", 7)


@pytest.mark.skipif(installed("onnxruntime"), reason="onnxruntime_genai is installed here")
def test_without_the_package_the_error_says_what_to_install() -> None:
    with pytest.raises(RequestError, match="pip install onnxruntime-genai onnxruntime"):
        OnnxRuntimeAdapter(EngineSetup())


@pytest.mark.parametrize("k", [1, 4])
def test_the_real_engine_counts_what_its_models_imply(k: int) -> None:
    engine = real("onnxruntime")
    agreement = oracle(engine, case("onnxruntime", k=k), 0.01)
    assert agreement.exact
    assert agreement.agrees, agreement.message


def test_the_real_engine_samples_the_target() -> None:
    engine, sampled_case = real("onnxruntime"), case("onnxruntime", temperature=1.0, seed=1)
    conforms, agrees = conformance(engine, sampled_case, 0.001), oracle(engine, sampled_case, 0.001)
    assert conforms.conforms, conforms.message
    assert agrees.agrees, agrees.message


def test_more_drafts_than_it_can_are_refused() -> None:
    with pytest.raises(RequestError, match="at most 16 tokens, not 17; use --specdec-k=16"):
        real("onnxruntime").measure(case("onnxruntime", k=17))
