"""The script that trains the embedded pair still does, on its whole corpus: a trial of a few steps,
loaded as a checkpoint. tests/models has the same on a part of the corpus.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.support import EMBEDDED

from pytest_specdec.decoding.loading import load_model


@pytest.mark.exhaustive
@pytest.mark.usefixtures("warm_processes")
def test_the_build_script_writes_a_checkpoint_with_mtp_layers(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(EMBEDDED / "build.py"),
        "--only",
        "draft",
        "--scale",
        "0.002",
        "--output",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True)
    built, committed = (
        load_model(str(tmp_path / "text-draft"), "cpu"),
        load_model(str(EMBEDDED / "text-draft"), "cpu"),
    )
    assert built.heads.num_mtp_layers == 3
    assert built.checkpoint.tensors.keys() == committed.checkpoint.tensors.keys()
    assert built.checkpoint.model_fingerprint != committed.checkpoint.model_fingerprint
    assert built.tokenizer("import sys")["input_ids"][0] == 0
