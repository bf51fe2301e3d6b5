"""Which token ids end a target's texts, and when they are part of its fingerprint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.support import edit_config

from pytest_specdec.checkpoints.checkpoint import Checkpoint, open_checkpoint
from pytest_specdec.checkpoints.text_ends import end_ids, target_fingerprint


@pytest.fixture
def target(tiny_target: Path, tmp_path: Path) -> Path:
    """A target whose configuration names the end 1, without generation defaults."""
    folder = shutil.copytree(tiny_target, tmp_path / "target")
    (folder / "generation_config.json").unlink(missing_ok=True)
    return edit_config(folder, eos_token_id=1)


def fingerprint(folder: Path, ends: object) -> str:
    """Of the target with ends among its generation defaults."""
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return target_fingerprint(open_checkpoint(folder))


def test_ends_are_those_of_the_configuration_without_generation_defaults(target: Path) -> None:
    checkpoint = open_checkpoint(target)
    assert end_ids(checkpoint) == {1}
    assert target_fingerprint(checkpoint) == checkpoint.model_fingerprint


@pytest.mark.parametrize(
    ("ends", "suffix"), [(1, ""), ([1], ""), (None, ""), ([5, 1], "-eos1.5"), (5, "-eos5")]
)
def test_other_ends_are_another_target(target: Path, ends: object, suffix: str) -> None:
    assert fingerprint(target, ends) == Checkpoint(target).model_fingerprint + suffix
