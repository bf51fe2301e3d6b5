"""`python -m pytest_specdec profile`: from a .json report to a file beside a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.records import row
from helpers.report_rows import session_rows

from pytest_specdec.__main__ import main
from pytest_specdec.report import render

CASE = "text/draft-k4-depth0-t1"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "out.json"
    path.write_text(render(".json", session_rows(8)))
    return path


def test_a_profile_is_written_and_printed(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["profile", str(report), f"--case={CASE}", "--method=draft_model"]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    written = report.parent / "speculation_profile.json"
    assert main([*arguments, "-o", str(written)]) == 0
    assert json.loads(written.read_text()) == printed
    assert printed["num_speculative_tokens"] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method=eagle3"], "several cases; pass --case with one of: text/draft-k12-depth0-t1,"),
        (["--case=text/x", "--method=eagle3"], "no measured case text/x; pass --case"),
        ([f"--case={CASE}"], "does not say how /models/draft drafts; name it with --method"),
    ],
)
def test_what_is_not_said_is_asked_for(
    report: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(report), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2, "cases": []}', '{"schema": 1, "cases": 3}']
)
def test_another_file_is_refused(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(text)
    assert main(["profile", str(tmp_path / "x.json")]) == 2
    assert "is no report of schema 1" in capsys.readouterr().err
    assert main(["profile", str(tmp_path / "none.json")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_counts_without_models_have_no_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(render(".json", [row(depth=None)]))
    assert main(["profile", str(tmp_path / "x.json")]) == 2
    assert "no measured case of known models" in capsys.readouterr().err
