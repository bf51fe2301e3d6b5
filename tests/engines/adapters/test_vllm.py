"""vLLM in this process: what can be tried without it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from helpers.reports import request
from helpers.support import EMBEDDED

from pytest_specdec.acceptance.lookup import NGRAM
from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.common.errors import RequestError
from pytest_specdec.engines.adapter_api import EngineSetup, ReportedRound, Totals
from pytest_specdec.engines.adapters.vllm import VllmInProcessAdapter, plain, vllm
from pytest_specdec.engines.adapters.vllm_server import SpecMetrics, VllmServerAdapter


def test_a_llama_with_mtp_layers_is_handed_over_without_them(tmp_path: Path) -> None:
    source = EMBEDDED / "text-target"
    stripped = open_checkpoint(Path(plain(str(source), tmp_path / "target")))
    assert stripped.folder == tmp_path / "target"
    assert not stripped.has_mtp_tensors
    assert stripped.mtp_layers == 0
    original = open_checkpoint(source)
    assert set(stripped.tensors) == {
        name for name in original.tensors if not original.is_mtp_tensor(name)
    }
    assert (stripped.folder / "tokenizer.json").read_bytes() == (
        source / "tokenizer.json"
    ).read_bytes()
    assert plain(str(stripped.folder), tmp_path / "again") == str(stripped.folder), (
        "nothing to leave out"
    )


def test_a_hub_id_is_left_to_vllm(tmp_path: Path) -> None:
    assert plain("owner/name", tmp_path / "target") == "owner/name"


def test_with_a_url_it_is_the_server() -> None:
    assert isinstance(vllm(EngineSetup(url="http://host")), VllmServerAdapter)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_the_error_says_what_to_do() -> None:
    with pytest.raises(RequestError, match="pip install vllm, or name a server: --specdec-url="):
        vllm(EngineSetup())


def made_with(
    monkeypatch: pytest.MonkeyPatch, folder: Path, drafter: str, method: str | None = None
) -> dict[str, Any]:
    """The speculative configuration that the adapter gives vLLM, which then has `method`."""
    loaded: list[dict[str, Any]] = []

    class Vllm:
        __version__ = "0"

        def LLM(self, **given: Any) -> SimpleNamespace:  # noqa: N802
            loaded.append(given["speculative_config"])
            chosen = SimpleNamespace(method=method or loaded[0]["method"])
            config = SimpleNamespace(speculative_config=chosen)
            return SimpleNamespace(llm_engine=SimpleNamespace(vllm_config=config))

    monkeypatch.setattr("pytest_specdec.engines.adapters.vllm._vllm", Vllm)
    VllmInProcessAdapter(EngineSetup())._engine(
        request(target="owner/name", drafter=drafter), folder
    )
    return loaded[0]


def test_an_eagle3_head_is_handed_over_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert made_with(monkeypatch, tmp_path, "eagle3:/heads/a") == {
        "num_speculative_tokens": 3,
        "method": "eagle3",
        "model": "/heads/a",
    }


@pytest.mark.parametrize(
    ("drafter", "method", "words"),
    [
        ("owner/eagle3-distilled", "eagle3", "it drafts by eagle3 and the case drafts with model"),
        (
            "eagle3:/heads/a",
            "eagle",
            "it drafts by eagle and the case drafts with eagle3 ./heads/a",
        ),
    ],
)
def test_a_method_that_vllm_chose_by_itself_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, drafter: str, method: str, words: str
) -> None:
    with pytest.raises(RequestError, match=f"{words}.*; rename the drafter's folder"):
        made_with(monkeypatch, tmp_path, drafter, method)


def test_it_looks_up_the_n_grams_that_replay_looks_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """n-grams of 1 to 2 tokens, the longest first and of several places the first, as
    `acceptance.lookup` has it.
    """
    loaded: list[dict] = []

    class Vllm:
        __version__ = "0"

        def LLM(self, **given: Any) -> None:  # noqa: N802
            loaded.append(given)

    monkeypatch.setattr("pytest_specdec.engines.adapters.vllm._vllm", Vllm)
    adapter = VllmInProcessAdapter(EngineSetup())
    adapter._engine(request(target="owner/name", drafter="prompt-lookup"), tmp_path)
    drafting = loaded[0]["speculative_config"]
    assert (
        (drafting["prompt_lookup_min"], drafting["prompt_lookup_max"])
        == adapter.convention.ngrams
        == (1, NGRAM)
    )


def test_metrics_of_a_request_without_a_round() -> None:
    recorded = {
        "num_spec_steps": 0,
        "num_accepted_draft_tokens": 0,
        "num_draft_tokens": 0,
        "acceptance_histogram": [0, 0, 0, 0],
    }
    metrics = msgspec.json.decode(json.dumps(recorded), type=SpecMetrics)
    assert metrics.rounds() == ()
    assert metrics.totals() == Totals(rounds=0, drafted=0, accepted=0, per_position=(0, 0, 0))


def test_detailed_metrics_list_rounds_in_order() -> None:
    metrics = SpecMetrics(2, 3, 6, [0, 1, 1, 0], [1, 2], [3, 3])
    assert metrics.rounds() == (ReportedRound(3, 1), ReportedRound(3, 2))
    assert metrics.totals() == Totals(rounds=2, drafted=6, accepted=3, per_position=(2, 1, 0))
