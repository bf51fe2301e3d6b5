"""An engine's form of a checkpoint is found beside it, and refused where it is not that
checkpoint's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import EMBEDDED

from pytest_specdec.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pytest_specdec.common.errors import RequestError
from pytest_specdec.engines.adapters.converted import STAMP, form_of, is_current, write_stamp


@pytest.fixture
def checkpoint(tiny_target: Path, tmp_path: Path) -> Checkpoint:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_target.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    return open_checkpoint(folder)


@pytest.mark.parametrize("role", ["target", "draft"])
def test_the_committed_form_is_that_of_the_committed_weights(role: str) -> None:
    checkpoint = open_checkpoint(EMBEDDED / f"text-{role}")
    assert form_of(checkpoint, "openvino") == checkpoint.folder / "openvino"
    assert is_current(checkpoint.folder / "openvino", checkpoint), "make openvino-form"


@pytest.mark.parametrize("place", ["", "gguf"])
def test_a_file_is_found_beside_the_weights_or_in_a_folder_of_its_form(
    checkpoint: Checkpoint, place: str
) -> None:
    folder = checkpoint.folder / place
    folder.mkdir(exist_ok=True)
    (folder / "any.gguf").touch()
    assert form_of(checkpoint, "gguf") == folder / "any.gguf"


def test_a_missing_form_is_reported_with_its_converter(checkpoint: Checkpoint) -> None:
    with pytest.raises(
        RequestError,
        match=r"has no \*\.gguf; convert it into .*gguf: llama.cpp's convert_hf_to_gguf.py",
    ):
        form_of(checkpoint, "gguf")
    with pytest.raises(
        RequestError,
        match=r"has no openvino_model.xml; convert it into .*optimum-cli export openvino",
    ):
        form_of(checkpoint, "openvino")


def test_two_files_are_ambiguous(checkpoint: Checkpoint) -> None:
    for name in ("a.gguf", "b.gguf"):
        (checkpoint.folder / name).touch()
    with pytest.raises(RequestError, match=r"holds 2 files .* leave one of them there"):
        form_of(checkpoint, "gguf")


def test_a_stamp_shows_a_form_of_other_weights(checkpoint: Checkpoint) -> None:
    folder = checkpoint.folder / "onnx"
    assert not is_current(folder, checkpoint)
    write_stamp(folder, checkpoint)
    (folder / "genai_config.json").touch()
    assert is_current(folder, checkpoint)
    assert form_of(checkpoint, "onnx") == folder
    (folder / STAMP).write_text('{"model_fingerprint": "0123456789abcdef"}')
    assert not is_current(folder, checkpoint)
    with pytest.raises(
        RequestError, match=r"converted from other weights \(0123456789abcdef\) .* convert it again"
    ):
        form_of(checkpoint, "onnx")


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_unreadable_stamp_is_refused(checkpoint: Checkpoint, text: str) -> None:
    folder = checkpoint.folder / "onnx"
    folder.mkdir()
    (folder / "genai_config.json").touch()
    (folder / STAMP).write_text(text)
    with pytest.raises(RequestError, match=r"cannot be read .* convert the checkpoint again"):
        form_of(checkpoint, "onnx")
