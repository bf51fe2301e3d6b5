"""Paths as messages name them: below the working directory without it, many files of a folder in
one line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_specdec.common.display import short, told_files


def test_a_path_is_named_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert short(tmp_path / "baselines" / "a.json") == str(Path("baselines", "a.json"))
    assert short(tmp_path.parent / "a.json") == str(tmp_path.parent / "a.json")


@pytest.mark.parametrize(("count", "lines"), [(6, 6), (7, 1)])
def test_many_files_of_a_folder_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, lines: int
) -> None:
    monkeypatch.chdir(tmp_path)
    files = [tmp_path / "texts" / f"{number}.json" for number in range(count)]
    lines_told = told_files([*reversed(files), tmp_path / "report.html"])
    assert len(lines_told) == lines + 1
    assert "wrote report.html" in lines_told
    assert lines_told[-1] == (
        f"wrote 7 files in {Path('texts')}" if count == 7 else f"wrote {Path('texts', '5.json')}"
    )
