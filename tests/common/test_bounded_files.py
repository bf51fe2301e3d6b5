"""Files that are endless, too large or no files are refused before they are read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_specdec.baselines.store import load_baseline
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.checkpoints.json_files import read_json
from pytest_specdec.common import bounded_files
from pytest_specdec.common.bounded_files import read_bytes, read_text
from pytest_specdec.common.errors import SpecdecError
from pytest_specdec.engines.adapters.trace_reader import read_trace
from pytest_specdec.speedup.cost_profile import CostProfile

READERS: dict[str, Callable[[Path], Any]] = {
    "baseline": load_baseline,
    "prompts": lambda path: read_prompts(path),
    "profile": CostProfile.load,
    "trace": read_trace,
    "configuration": lambda path: read_json(path, "save it again"),
}


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bytes(path, 4)


def test_line_ends_are_read_as_python_does(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("é\r\nb\rc\n".encode())
    assert read_text(path) == path.read_text(encoding="utf-8") == "é\nb\nc\n"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither pipes nor devices as files"
)
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for place in ("pipe", "zeros"):
        with pytest.raises(SpecdecError, match=r"cannot be read \(.*not a regular file"):
            READERS[name](tmp_path / place)


@pytest.mark.parametrize("name", READERS)
def test_files_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A sparse file of 16 GiB: whoever reads it whole does not come back."""
    path = tmp_path / "large.json"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    monkeypatch.setattr(bounded_files.read_bytes, "__defaults__", (1 << 16,))
    monkeypatch.setattr(bounded_files.read_text, "__defaults__", (1 << 16,))
    with pytest.raises(SpecdecError, match=r"cannot be read \(.*more than 65,536 bytes"):
        READERS[name](path)
