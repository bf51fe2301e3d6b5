"""Why a run is not full, one reason at a time."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_specdec.config.settings import OptionValues, Settings
from pytest_specdec.session.completeness import CollectedTests


@pytest.fixture
def collected(tmp_path: Path) -> CollectedTests:
    """One suite of two test files, both collected, four tests made for cases."""
    files = {tmp_path / name for name in ("test_one.py", "test_two.py")}
    for path in (*files, tmp_path / "prompts.jsonl", tmp_path / "helper.py"):
        path.touch()
    return CollectedTests(4, {tmp_path}, files)


def reason(
    collected: CollectedTests,
    selected: int = 4,
    *,
    args: tuple[str, ...] = ("suites",),
    only: bool = False,
    **given: Any,
):
    config: Any = SimpleNamespace(
        option=SimpleNamespace(collectonly=only),
        args=list(args),
        getini=lambda name: ["test_*.py", "*_test.py"],
    )
    settings = Settings(OptionValues(**given), OptionValues(), Path(), Path())
    return collected.partial_reason(config, settings, selected)


def test_all_tests_of_all_files_are_a_full_run(collected: CollectedTests) -> None:
    assert reason(collected) is None
    assert reason(collected, device="cpu", alpha=0.05, report=(Path("out.json"),)) is None


@pytest.mark.parametrize(
    "name",
    [
        "k",
        "depth",
        "target",
        "draft",
        "temperature",
        "top_k",
        "top_p",
        "prompts",
        "new_tokens",
        "seed",
    ],
)
def test_options_that_choose_cells_make_it_partial(collected: CollectedTests, name: str) -> None:
    assert (
        reason(collected, **{name: 1})
        == f"--specdec-{name.replace('_', '-')} chooses cells by hand"
    )


def test_deselected_tests_make_it_partial(collected: CollectedTests) -> None:
    assert reason(collected, 3) == "only 3 of 4 tests of the suites were selected"


def test_node_ids_make_it_partial_even_where_nothing_else_was_made(
    collected: CollectedTests,
) -> None:
    assert (
        reason(collected, args=("suites/test_one.py::test_a",))
        == "the command line names single tests"
    )


def test_a_test_file_that_was_not_collected_makes_it_partial(
    collected: CollectedTests, tmp_path: Path
) -> None:
    (tmp_path / "test_three.py").touch()
    assert reason(collected) == "test_three.py was not collected"


def test_looking_only_makes_it_partial(collected: CollectedTests) -> None:
    assert reason(collected, only=True) == "--collect-only runs nothing"


def test_a_folder_that_shares_the_suites_name_makes_it_partial(tmp_path: Path) -> None:
    for folder in ("chat", "suites/chat"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "test_one.py").touch()
    config: Any = SimpleNamespace(
        option=SimpleNamespace(collectonly=False), args=[], getini=lambda name: ["test_*.py"]
    )
    settings = Settings(OptionValues(), OptionValues(), tmp_path, tmp_path)
    for folder, twin in (("chat", "suites/chat"), ("suites/chat", "chat")):
        collected = CollectedTests(1, {tmp_path / folder}, {tmp_path / folder / "test_one.py"})
        assert (
            collected.partial_reason(config, settings, 1)
            == f"{twin} shares its baselines with a folder that ran"
        )
    both = {tmp_path / "chat", tmp_path / "suites/chat"}
    assert (
        CollectedTests(1, both, {folder / "test_one.py" for folder in both}).partial_reason(
            config, settings, 1
        )
        is None
    )
