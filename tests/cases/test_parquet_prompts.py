"""Prompts of .parquet files: SPEED-Bench's columns, and files that are none."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from pytest_specdec.cases import parquet_prompts
from pytest_specdec.cases.prompts import read_prompts
from pytest_specdec.common.errors import MissingExtraError, RequestError

ROWS = [
    {
        "question_id": f"q{number}",
        "category": category,
        "sub_category": "none",
        "turns": [f"Question {number}?", "And then?"],
        "multiturn": True,
    }
    for number, category in enumerate(("coding", "math", "rag"))
]


@pytest.fixture
def parquet() -> Any:
    return pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed; pip install 'pytest-specdec[parquet]'"
    )


def write(parquet: Any, path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_rows_are_questions(parquet: Any, tmp_path: Path) -> None:
    prompts = read_prompts(write(parquet, tmp_path / "test.parquet", ROWS), limit=2)
    assert [(prompt.category, prompt.chat()[0]["content"]) for prompt in prompts] == [
        ("coding", "Question 0?"),
        ("math", "Question 1?"),
    ]


def test_other_files_are_refused(
    parquet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.parquet").write_text("PAR1 not at all")
    with pytest.raises(RequestError, match=r"is no \.parquet file"):
        read_prompts(tmp_path / "text.parquet")
    other = write(parquet, tmp_path / "other.parquet", [{"category": "x", "prompt": "y"}])
    with pytest.raises(RequestError, match="has no column turns"):
        read_prompts(other)
    whole = write(parquet, tmp_path / "whole.parquet", ROWS)
    monkeypatch.setattr(parquet_prompts, "MOST_UNPACKED", 10)
    with pytest.raises(RequestError, match="more than a prompt file may"):
        read_prompts(whole)
    with pytest.raises(RequestError, match="cannot be read"):
        read_prompts(tmp_path / "none.parquet")


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    real = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'pytest-specdec\[parquet\]'"):
        read_prompts(tmp_path / "x.parquet")
