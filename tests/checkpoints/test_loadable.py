"""Quantised checkpoints are refused in one message where their package is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from pytest_specdec import load_model
from pytest_specdec.checkpoints.checkpoint import open_checkpoint
from pytest_specdec.checkpoints.loadable import check_quantised, quantisation
from pytest_specdec.common.errors import RequestError
from pytest_specdec.decoding.layer_stream import load_streamed


def quantised(source: Path, folder: Path, given: object) -> Path:
    """A copy whose configuration says that its weights are quantised."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": given}))
    return folder


@pytest.mark.parametrize(
    ("method", "package"),
    [
        ("torchao", "torchao"),
        ("bitsandbytes", "bitsandbytes"),
        ("compressed-tensors", "compressed-tensors"),
        ("awq", "gptqmodel"),
    ],
)
def test_a_missing_package_is_named(
    method: str,
    package: str,
    tiny_target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = quantised(tiny_target, tmp_path / "quantised", {"quant_method": method})
    found = importlib.util.find_spec
    missing = package.replace("-", "_")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    message = rf"quantised with {method}, and {package} is not installed; run: pip install"
    with pytest.raises(RequestError, match=message):
        load_model(str(folder), "cpu")
    with pytest.raises(RequestError, match=message):
        check_quantised(open_checkpoint(folder))


def test_code_that_bitsandbytes_would_fetch_is_refused(
    tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quantised(tiny_target, tmp_path / "quantised", {"quant_method": "bitsandbytes"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(RequestError, match="fetches code from the model hub where"):
        check_quantised(open_checkpoint(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_quantised(open_checkpoint(folder))


def test_methods_that_transformers_does_not_know_and_streams_are_refused(
    tiny_target: Path, tmp_path: Path
) -> None:
    assert quantisation(open_checkpoint(tiny_target)) is None
    folder = quantised(tiny_target, tmp_path / "quantised", {"quant_method": "of tomorrow"})
    check_quantised(open_checkpoint(folder))
    with pytest.raises(RequestError, match="with of tomorrow, which transformers does not know"):
        load_model(str(folder), "cpu")
    folder = quantised(tiny_target, tmp_path / "hqq", {"quant_method": "hqq"})
    with pytest.raises(RequestError, match="--specdec-offload reads plain ones; leave it out"):
        load_streamed(str(folder), "cpu")
