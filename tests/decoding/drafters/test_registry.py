"""Drafters of registered types: loaded once for a target, and again where their files changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.eagle3 import write_head
from helpers.packages import installed
from safetensors.torch import load_file, save_file

from pytest_specdec.cases.drafter import DRAFTER_TYPES
from pytest_specdec.decoding.decode import decode
from pytest_specdec.decoding.drafters.registry import drafter_for
from pytest_specdec.decoding.loading import LoadedModel, load_model

PROMPTS = [[0, 2, 3, 4], [0, 5, 6]]
ONE_FILE = """
from pytest_specdec.decoding.drafters import OneHotDrafter


class Same:
    def __init__(self, token):
        self.token = token

    def extend(self, tokens):
        pass

    def propose(self, k):
        return [self.token] * k


def check(target, file, depth):
    pass


def load(target, file, depth):
    token = int(file.read_text())
    return OneHotDrafter(lambda tokens: Same(token), f"same-{token}")
"""


@pytest.fixture
def target(tiny_target: Path) -> LoadedModel:
    return load_model(str(tiny_target), "cpu")


def later(path: Path) -> None:
    """A file's time one second on, as file systems with coarse times show the next write."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_a_head_is_loaded_once_and_again_after_an_edit_in_place(
    target: LoadedModel, tmp_path: Path
) -> None:
    head = write_head(tmp_path / "head", target.checkpoint.folder, ids=(0, 1))
    first = drafter_for(target, str(head), 0)
    fingerprint = first.fingerprint()
    before = decode(target, str(head), PROMPTS, k=3, new_tokens=16).counts
    assert drafter_for(target, str(head), 0) is first
    weights = load_file(head / "model.safetensors")
    weights["lm_head.weight"] *= -3
    save_file(weights, head / "model.safetensors")
    later(head / "model.safetensors")
    second = drafter_for(target, str(head), 0)
    assert second.fingerprint() != fingerprint
    assert len(target.registered_drafters) == 1, "the first is not kept"
    edited = decode(target, str(head), PROMPTS, k=3, new_tokens=16).counts
    fresh = load_model(str(target.checkpoint.folder), "cpu")
    loaded_anew = decode(fresh, str(head), PROMPTS, k=3, new_tokens=16).counts
    assert edited.accepted.tolist() == loaded_anew.accepted.tolist()
    assert edited.accepted.tolist() != before.accepted.tolist()


def test_a_drafter_of_one_file_is_loaded_again_too(target: LoadedModel, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("5")
    with installed(tmp_path / "site", "same", ONE_FILE, {DRAFTER_TYPES.group: "same = same"}):
        first = drafter_for(target, f"same:{file}", 0)
        assert drafter_for(target, f"same:{file}", 0) is first
        file.write_text("7")
        later(file)
        assert drafter_for(target, f"same:{file}", 0).fingerprint() == "same-7"
