"""llama.cpp in this process: every round is replay's, and a draft file of other weights is found
with no baseline.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from helpers.real_engine import DRAFT, case, installed, real
from helpers.support import EMBEDDED, add_noise

from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.common.errors import RequestError
from pytest_specdec.engines.adapter_api import EngineSetup
from pytest_specdec.engines.adapters.llama_cpp import llama_cpp
from pytest_specdec.engines.adapters.llama_cpp_server import LlamaCppServerAdapter
from pytest_specdec.engines.model_checks import oracle


def test_with_a_url_it_is_the_server() -> None:
    assert isinstance(llama_cpp(EngineSetup(url="http://127.0.0.1:1")), LlamaCppServerAdapter)


@pytest.mark.skipif(installed("llama-cpp"), reason="xllamacpp is installed here")
def test_without_the_package_the_error_says_what_to_do() -> None:
    with pytest.raises(
        RequestError, match="pip install xllamacpp, or name a llama-server: --specdec-url="
    ):
        llama_cpp(EngineSetup())


def test_the_real_engine_counts_what_its_models_imply() -> None:
    agreement = oracle(real("llama-cpp"), case("llama-cpp", k=4), 0.01)
    assert agreement.exact
    assert agreement.agrees, agreement.message


def test_a_draft_file_of_other_weights_is_found_without_a_baseline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = real("llama-cpp")
    monkeypatch.setattr(sys, "path", [str(EMBEDDED), *sys.path])
    import gguf_form

    noisy = add_noise(Path(DRAFT), tmp_path / "noisy", 0.3, only="layers.0.mlp.down_proj")
    named = shutil.copytree(DRAFT, tmp_path / "draft", ignore=shutil.ignore_patterns("gguf"))
    gguf_form.write_gguf(open_checkpoint(noisy), named / "gguf")
    agreement = oracle(engine, case("llama-cpp", draft=str(named)), 0.01)
    assert not agreement.agrees
    assert "llama-cpp counts an acceptance length of" in agreement.message
    assert agreement.counted < agreement.expected


def test_a_form_of_other_weights_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    engine = real("llama-cpp")
    named = shutil.copytree(DRAFT, tmp_path / "draft")
    (named / "gguf" / "source.json").write_text(json.dumps({"model_fingerprint": "0" * 16}))
    with pytest.raises(RequestError, match=r"converted from other weights .* convert it again"):
        oracle(engine, case("llama-cpp", draft=str(named)), 0.01)
