"""What config.json announces is held against the tensors before anything is built from it, in no
time.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from fuzz_inputs import tiny_checkpoint

from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.common.errors import RequestError


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "tiny")


def refusal(folder: Path, **values: Any) -> str:
    """The message for a folder whose config.json has these values."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    start = time.perf_counter()
    with pytest.raises(RequestError) as caught:
        open_checkpoint(folder)
    assert time.perf_counter() - start < 1
    message = str(caught.value)
    assert message.count("; ") == 1
    return message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_attention_heads", 0),
        ("num_attention_heads", -2),
        ("num_attention_heads", 10**9),
        ("hidden_size", "16"),
        ("hidden_size", 16.0),
        ("intermediate_size", True),
        ("vocab_size", 0),
        ("num_key_value_heads", {}),
        ("max_position_embeddings", 10**12),
        ("num_mtp_layers", -1),
        ("num_experts", [1, -1]),
    ],
)
def test_sizes_that_no_model_has_are_refused(tiny: Path, name: str, value: Any) -> None:
    assert f"config.json says {name}: {value!r}, which no model has" in refusal(
        tiny, **{name: value}
    )


@pytest.mark.parametrize("layers", [3, 1_000, 1_000_000])
def test_more_layers_than_the_tensors_have_are_refused_at_once(tiny: Path, layers: int) -> None:
    message = refusal(tiny, num_hidden_layers=layers)
    assert f"says num_hidden_layers: {layers}" in message
    assert "layers; save the whole model" in message or "which no model has" in message


def test_an_embedding_of_another_shape_is_refused(tiny: Path) -> None:
    assert "says vocab_size: 64 and the embedding is of 32 tokens by 16" in refusal(
        tiny, vocab_size=64
    )
    assert "says hidden_size: 32 and the embedding is of 32 tokens by 16" in refusal(
        tiny, vocab_size=32, hidden_size=32
    )


def test_a_narrow_embedding_may_be_announced(tiny: Path) -> None:
    path = tiny / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"hidden_size": 32, "word_embed_proj_dim": 16})
    )
    assert open_checkpoint(tiny).vocabulary == 32


@pytest.mark.parametrize("method", ["mxfp4", "fp8", "fbgemm_fp8", "eetq", None, 3])
def test_quantisations_that_fetch_code_are_refused(tiny: Path, method: Any) -> None:
    assert "fetches from the model hub; name a copy" in refusal(
        tiny, quantization_config={"quant_method": method}
    )


def test_a_quantisation_of_a_package_is_not(tiny: Path) -> None:
    path = tiny / "config.json"
    path.write_text(
        json.dumps(
            json.loads(path.read_text())
            | {"quantization_config": {"quant_method": "compressed-tensors"}}
        )
    )
    assert open_checkpoint(tiny).vocabulary == 32


def test_patches_and_other_weight_files_are_refused(tiny: Path) -> None:
    assert "asks transformers to patch its own code" in refusal(
        tiny, fusion_config={"patch_embeddings": True}
    )
    message = refusal(tiny, fusion_config=None, transformers_weights="../other/model.safetensors")
    assert "names '../other/model.safetensors' as its weights" in message


@pytest.mark.parametrize("named", ["pytorch_model.bin", "../model.safetensors", 3, ["a"]])
def test_an_index_names_the_folders_own_safetensors_files(tiny: Path, named: Any) -> None:
    shutil.move(tiny / "model.safetensors", tiny / "model-00001-of-00001.safetensors")
    (tiny / "pytorch_model.bin").write_bytes(b"no pickle")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": named}}
    (tiny / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        RequestError, match="which is not a weights file in the folder; save it there"
    ):
        open_checkpoint(tiny)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "config.json:1 is not JSON (nested more than 64 levels deep)"),
        ('{"a":\n' + "9" * 5000 + "}", "config.json:2 is not JSON (a number of 5000 digits)"),
        ('{"a": "\\ud800"}', "config.json:1 is not JSON (half of a surrogate pair"),
        ('{"a": 1, "a": 2}', 'config.json:1 is not JSON (the key "a" occurs twice'),
    ],
)
def test_strange_json_is_one_message(tiny: Path, text: str, message: str) -> None:
    (tiny / "config.json").write_text(text)
    with pytest.raises(RequestError) as caught:
        open_checkpoint(tiny)
    assert message in str(caught.value)


def test_infinities_stand_in_configurations(tiny: Path) -> None:
    path = tiny / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"time_step_limit": [0.0, float("inf")]})
    )
    assert "Infinity" in path.read_text()
    assert open_checkpoint(tiny).model_fingerprint


@pytest.mark.parametrize("ends", [-1, "1", [1, None], 2.5])
def test_an_end_that_is_no_token_is_refused(tiny: Path, ends: Any) -> None:
    (tiny / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    with pytest.raises(RequestError, match="names no usable eos_token_id"):
        open_checkpoint(tiny)
