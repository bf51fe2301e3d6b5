"""`baseline forget-erosion`."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from helpers.records import record, scaled, steady_counts

from pytest_specdec.__main__ import main
from pytest_specdec.baselines.store import fingerprint, load_baseline, write_all
from pytest_specdec.baselines.writing import dumps

BETTER = record(scaled(steady_counts(), 1.1))
ERODED = msgspec.structs.replace(record(), replaced=(BETTER.as_replaced(),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"text/a.json": ERODED, "text/b.json": ERODED, "chat/c.json": record()}
    write_all({tmp_path / name: dumps(stored) for name, stored in files.items()})
    write_all({tmp_path / "text/texts/t1.json": "{}"})
    return tmp_path


def test_a_file_forgets_and_the_others_do_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", "forget-erosion", str(folder / "text/a.json")]) == 0
    assert capsys.readouterr().out == "erosion of 1 baseline forgotten\n"
    assert load_baseline(folder / "text/a.json") == record()
    assert load_baseline(folder / "text/b.json") == ERODED


def test_a_folder_forgets_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untouched = (folder / "chat/c.json").stat().st_mtime_ns
    assert main(["baseline", "forget-erosion", str(folder)]) == 0
    assert main(["baseline", "forget-erosion", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "erosion of 2 baselines forgotten",
        "no baseline remembers one before it",
    ]
    assert (folder / "chat/c.json").stat().st_mtime_ns == untouched


def test_evidence_against_a_baseline_that_forgets_stays_valid() -> None:
    assert fingerprint(ERODED) == fingerprint(record()) != fingerprint(BETTER)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("text/z.json", "no baseline at"),
        ("empty", "holds no baseline; name a folder that does"),
        ("damaged.json", "is truncated or not JSON"),
    ],
)
def test_what_is_no_baseline_is_refused_and_nothing_is_written(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, problem: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "damaged.json").write_text("{")
    arguments = [str(folder / "text/a.json"), str(folder / name)]
    assert main(["baseline", "forget-erosion", *arguments]) == 2
    assert problem in capsys.readouterr().err
    assert load_baseline(folder / "text/a.json") == ERODED
