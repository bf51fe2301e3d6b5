"""What the script of the embedded pair writes: a trial of a few steps on a part of its corpus."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import build
import corpus
import pytest
from helpers.support import EMBEDDED

from pytest_specdec.decoding.loading import load_model


def test_the_build_script_writes_a_checkpoint_with_mtp_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = corpus._stdlib_sources
    monkeypatch.setattr(corpus, "_stdlib_sources", lambda: itertools.islice(sources(), 40))
    options = ["--only", "draft", "--scale", "0.002", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["build.py", *options])
    build.main()
    built, committed = (
        load_model(str(folder / "text-draft"), "cpu") for folder in (tmp_path, EMBEDDED)
    )
    assert built.heads.num_mtp_layers == 3
    assert built.checkpoint.tensors.keys() == committed.checkpoint.tensors.keys()
    assert built.checkpoint.model_fingerprint != committed.checkpoint.model_fingerprint
    assert built.tokenizer("import sys")["input_ids"][0] == 0
