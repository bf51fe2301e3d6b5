"""`baseline diff`: two files or two folders, and what a reviewer reads of them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from helpers.records import record, scaled, steady_counts

from pytest_specdec.__main__ import main
from pytest_specdec.baselines.diff import Difference, differences
from pytest_specdec.baselines.store import write_all
from pytest_specdec.baselines.writing import dumps
from pytest_specdec.records.case_costs import CaseCosts
from pytest_specdec.records.record import Record


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    before, now = tmp_path / "before", tmp_path / "now"
    stored: dict[Path, Record] = {
        before / "text" / "same-k3.json": record(),
        now / "text" / "same-k3.json": record(),
        before / "text" / "worse-k3.json": record(),
        now / "text" / "worse-k3.json": record(
            scaled(steady_counts(), 0.9), text="text-2", temperature=0.5
        ),
        before / "text" / "gone-k3.json": record(),
        now / "chat" / "new-k3.json": record(),
    }
    write_all({path: dumps(stored_record) for path, stored_record in stored.items()})
    write_all(
        {before / "text" / "texts" / "t1.json": "{}", now / "text" / "tokens" / "t1.json": "{}"}
    )
    return before, now


def test_folders_are_compared_case_by_case(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["baseline", "diff", *map(str, folders)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "new  chat/new-k3: 2.5000",
        "gone  text/gone-k3: 2.5000",
        "changed  text/worse-k3: 2.5000 -> 2.3500 (-6.00 %)",
        "  temperature: 1.0 -> 0.5",
        "  texts: 12 of 12 sampled again",
    ]


def test_equal_files_are_silent(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(folder / "text" / "same-k3.json") for folder in folders]
    assert main(["baseline", "diff", *files]) == 0
    assert capsys.readouterr().out == ""


def test_weights_prompts_and_repeats_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = record()
    now = record(
        steady_counts(11),
        drafter="mtp",
        device="cuda",
        repeats=2,
        again=(record(steady_counts(11)).counts,),
    )
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    write_all(dict(zip(files, map(dumps, (before, now)), strict=True)))
    assert main(["baseline", "diff", *map(str, files)]) == 1
    printed = capsys.readouterr().out
    for line in (
        "drafter: draft -> mtp",
        "device: cpu -> cuda",
        "repeats: 1 -> 2",
        "prompts: 0 new, 1 gone",
    ):
        assert f"  {line}\n" in printed


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("nothing.json", "nothing.json"), "no baseline at"),
        (("text", "text/same-k3.json"), "name two files or two folders"),
        (("empty", "empty"), "name the folders that do"),
    ],
)
def test_what_cannot_be_compared_is_one_message(
    folders: tuple[Path, Path],
    names: tuple[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = folders[0]
    (before / "empty").mkdir()
    assert main(["baseline", "diff", *(str(before / name) for name in names)]) == 2
    assert message in capsys.readouterr().err


def test_changed_costs_are_reported(tmp_path: Path) -> None:
    costs = CaseCosts(10.0, 12.0, 4.0, machine="gpu")
    for name, stored_costs in (
        ("a", costs),
        ("b", msgspec.structs.replace(costs, verify_ms=13.0)),
        ("c", None),
    ):
        (tmp_path / f"{name}.json").write_text(dumps(record(costs=stored_costs)))
    (changed,) = differences(tmp_path / "a.json", tmp_path / "b.json")
    assert "  verify_ms: 12.0 -> 13.0" in changed.lines()
    (gone,) = differences(tmp_path / "a.json", tmp_path / "c.json")
    assert "  costs: some -> none" in gone.lines()


@pytest.mark.parametrize("missing", ["before", "now"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_missing_path_is_named_with_a_cure(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str], missing: str, kind: str
) -> None:
    path = folders[0] / "text" / "same-k3.json" if kind == "file" else folders[0]
    nowhere = path.with_name("nowhere")
    pair = [nowhere, path] if missing == "before" else [path, nowhere]
    assert main(["baseline", "diff", *map(str, pair)]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (
        "",
        f"error: no baseline at {nowhere}; name a baseline file, or a folder of them\n",
    )


COMMITS = ("1a2b3c4d5e" * 4, None)


def replacing(stored: Record, *factors: float) -> Record:
    history = tuple(
        record(scaled(steady_counts(), factor)).as_replaced(commit)
        for factor, commit in zip(factors, COMMITS, strict=False)
    )
    return msgspec.structs.replace(stored, replaced=history)


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        (
            replacing(record(), 1.2),
            replacing(record(scaled(steady_counts(), 0.98)), 1.2, 1.0),
            [
                "  replaced: 2.8000 at commit 1a2b3c4d5, 2.5000",
                "  erosion: 11.79 % below the best of the last 3 baselines (length 2.8000 at "
                "commit 1a2b3c4d5)",
            ],
        ),
        (
            record(),
            replacing(record(scaled(steady_counts(), 1.1)), 1.0),
            ["  replaced: 2.5000 at commit 1a2b3c4d5"],
        ),
        (replacing(record(), 1.2, 1.1), record(), ["  replaced: 2 earlier baselines forgotten"]),
        (record(), record(scaled(steady_counts(), 1.1)), []),
    ],
)
def test_the_history_is_shown(before: Record, now: Record, lines: list[str]) -> None:
    difference = Difference(name="text/a", before=before, now=now)
    assert list(difference.lines())[1:] == lines
