"""A pattern in the place of a drafter's path: what it matches, in which order, under which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_specdec.common.errors import RequestError
from pytest_specdec.config.candidates import candidates, is_pattern


def folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)


def names(root: Path, pattern: str) -> list[str]:
    return [candidate.name for candidate in candidates(pattern, root)]


def test_numbers_are_ordered_by_value_and_files_are_left_out(tmp_path: Path) -> None:
    folders(tmp_path, "ckpt-10", "ckpt-9", "ckpt-100", "other")
    (tmp_path / "ckpt-1.log").write_text("")
    found = candidates("ckpt-*", tmp_path)
    assert [candidate.name for candidate in found] == ["ckpt-9", "ckpt-10", "ckpt-100"]
    assert [candidate.path for candidate in found] == [
        str(tmp_path / candidate.name) for candidate in found
    ]


def test_names_are_the_parts_of_the_path_that_differ(tmp_path: Path) -> None:
    folders(tmp_path, "run-1/final", "run-2/final", "run-1/ckpt-5", "run-2/ckpt-5")
    assert names(tmp_path, "run-*/final") == ["run-1", "run-2"]
    assert names(tmp_path, "run-1/*") == ["ckpt-5", "final"]
    assert names(tmp_path, "run-*/*") == [
        "run-1_ckpt-5",
        "run-1_final",
        "run-2_ckpt-5",
        "run-2_final",
    ]
    assert names(tmp_path, "**/final") == ["run-1", "run-2"]


def test_a_path_can_be_absolute_and_the_folder_may_hold_wildcards(tmp_path: Path) -> None:
    root = tmp_path / "a[1]"
    folders(root, "ckpt-1", "ckpt-2")
    assert names(root, "ckpt-?") == ["ckpt-1", "ckpt-2"]
    assert names(tmp_path, str(tmp_path / "a*" / "ckpt-[12]")) == ["ckpt-1", "ckpt-2"]


def test_a_single_match_is_named_after_its_folder(tmp_path: Path) -> None:
    folders(tmp_path, "ckpt-1")
    assert names(tmp_path, "ckpt-*") == ["ckpt-1"]


def test_no_match_is_refused_with_the_folder_that_was_searched(tmp_path: Path) -> None:
    (tmp_path / "ckpt-1").write_text("a file")
    with pytest.raises(RequestError) as refusal:
        candidates("ckpt-*", tmp_path)
    assert str(refusal.value) == (
        f"no folder matches --specdec-draft='ckpt-*' in {tmp_path}; check the pattern"
    )


def test_an_existing_folder_is_no_pattern_whatever_its_name(tmp_path: Path) -> None:
    folders(tmp_path, "ckpt[1]")
    assert not is_pattern("ckpt[1]", tmp_path)
    assert is_pattern("ckpt[12]", tmp_path)
    assert not is_pattern("org/model", tmp_path)
