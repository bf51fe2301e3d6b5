"""`baseline sizes`: bytes by kind of file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.support import ROOT

from pytest_specdec.__main__ import main
from pytest_specdec.baselines.sizes import sizes

AUDIO = ROOT / "baselines" / "audio"


def test_every_file_is_counted_once() -> None:
    found = sizes(AUDIO)
    files = list(AUDIO.rglob("*.json"))
    assert sum(kind.files for kind in found.kinds) == len(files)
    assert sum(kind.size for kind in found.kinds) == sum(path.stat().st_size for path in files)
    records = [json.loads(path.read_text()) for path in AUDIO.glob("*.json")]
    assert found.cases == len(records)
    assert found.prompts == sum(
        len(rows) for record in records for rows in (record["counts"], *record.get("again", ()))
    )


def test_the_page_shows_todays_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baseline", "sizes", str(AUDIO)]) == 0
    assert capsys.readouterr().out in (ROOT / "docs" / "private-prompts.md").read_text()


def test_a_folder_without_baselines_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", "sizes", str(tmp_path)]) == 2
    assert main(["baseline", "sizes", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert "holds no baseline" in said
    assert "is no folder" in said
