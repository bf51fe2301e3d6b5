"""--specdec-baselines-per=device: a baseline of its own for each device and dtype."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.support import add_noise

from pytest_specdec.baselines.store import load_baseline

CELL = ("--specdec-k=4", "--specdec-depth=0", "--specdec-device=cpu")
PER_DEVICE = "--specdec-baselines-per=device"
HALF = "--specdec-dtype=bfloat16"
CASE = "letters/tiny-draft-k4-depth0-t1"
TEXTS = "letters/texts/t1-n24-s0.json"
TOKENS = "letters/tokens/tiny-draft-head0-t1-n24-s0"
SHARED = {f"{CASE}.json", f"{TOKENS}.json", TEXTS}
OF_DEVICE = {f"{CASE}@cpu-bfloat16.json", f"{TOKENS}@cpu-bfloat16.json"}


def differing(before: dict[str, str], now: dict[str, str]) -> set[str]:
    """The names of the files that are not in both with the same content."""
    return {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}


@pytest.fixture
def shared(project) -> dict[str, str]:
    """A project with baselines in float32 that all devices share."""
    project.create(*CELL)
    assert set(project.stored) == SHARED
    return project.stored


def test_new_baselines_are_written_beside_the_shared_ones(project, shared: dict[str, str]) -> None:
    result = project.run(*CELL, PER_DEVICE, HALF, "--specdec-update=new", ok=True)
    result.stdout.fnmatch_lines(["specdec: *baselines in * per device and dtype*"])
    assert differing(shared, project.stored) == OF_DEVICE
    folder = project.pytester.path / "baselines"
    of_device, plain = (
        load_baseline(folder / f"{CASE}@cpu-bfloat16.json"),
        load_baseline(folder / f"{CASE}.json"),
    )
    assert (of_device.environment.dtype, plain.environment.dtype) == ("bfloat16", "float32")
    assert of_device.case == plain.case
    assert {row.text for row in of_device.counts.values()} == {
        row.text for row in plain.counts.values()
    }
    before = project.stored
    (row,) = project.report(*CELL, PER_DEVICE, HALF)
    assert (row["verdict"], row["reason"], row["changed"]) == ("pass", "unchanged", [])
    assert row["baseline"]["acceptance_length"] == pytest.approx(of_device.acceptance_length)
    (row,) = project.report(*CELL)
    assert row["baseline"]["acceptance_length"] == pytest.approx(plain.acceptance_length)
    assert project.stored == before


def test_without_one_of_its_own_the_shared_baseline_decides_and_a_note_says_so(
    project, shared: dict[str, str]
) -> None:
    (row,) = project.report(*CELL, PER_DEVICE, HALF, "--specdec-margin=0.2")
    assert row["changed"] == ["environment (dtype: float32 -> bfloat16)"]
    assert row["notes"] == [
        "cpu-bfloat16 has no baseline of its own, so the one that all devices share was used in "
        "another environment (dtype: float32 -> bfloat16); --specdec-update=new creates one"
    ]
    (row,) = project.report(*CELL, PER_DEVICE)
    assert row["verdict"] == "pass"
    assert row["notes"] == [
        "cpu-float32 has no baseline of its own, so the one that all devices share was used; "
        "--specdec-update=new creates one"
    ]
    assert project.stored == shared


def test_an_update_for_a_device_leaves_the_shared_baseline_alone(
    project, shared: dict[str, str], tmp_path: Path
) -> None:
    """It remembers the baseline that it was judged against."""
    draft = f"--specdec-draft={add_noise(project.draft, tmp_path / 'other-draft', 0.1)}"
    project.run(*CELL, PER_DEVICE, HALF, draft, ok=False)
    project.run(*CELL, PER_DEVICE, HALF, draft, "--specdec-update=changed", ok=True)
    assert differing(shared, project.stored) == OF_DEVICE
    project.run(*CELL, PER_DEVICE, HALF, draft, ok=True)
    project.run(*CELL, ok=True)
    folder = project.pytester.path / "baselines"
    (replaced,) = load_baseline(folder / f"{CASE}@cpu-bfloat16.json").replaced
    length = load_baseline(folder / f"{CASE}.json").acceptance_length
    assert replaced.acceptance_length == pytest.approx(length)


def test_an_unchanged_run_in_place_of_the_shared_baseline_writes_nothing(
    project, shared: dict[str, str]
) -> None:
    project.run(*CELL, PER_DEVICE, "--specdec-update=changed", ok=True)
    assert project.stored == shared


def test_the_failure_of_one_device_is_explained_by_its_own_tokens(
    project, shared: dict[str, str], tmp_path: Path
) -> None:
    project.run(*CELL, PER_DEVICE, HALF, "--specdec-update=new", ok=True)
    for name in SHARED - {TEXTS}:
        (project.pytester.path / "baselines" / name).unlink()
    draft = f"--specdec-draft={add_noise(project.draft, tmp_path / 'other-draft', 0.1)}"
    result = project.run(*CELL, PER_DEVICE, HALF, draft, ok=False)
    assert "  tokens     acceptance fell most at" in result.stdout.str()


def test_pruning_keeps_what_other_devices_have(project, shared: dict[str, str]) -> None:
    project.pytester.makeini(
        "[pytest]\nspecdec_k = 4\nspecdec_depth = 0\nspecdec_device = cpu\n"
        "specdec_baselines_per = device\n"
    )
    project.write_test(SIMPLE)
    project.run(HALF, "--specdec-update=new", ok=True)
    stored = project.stored
    assert set(stored) == SHARED | OF_DEVICE
    for words in ((), (HALF,), ("--specdec-baselines-per=case",)):
        result = project.run("--specdec-prune", *words, ok=True)
        assert "deleted" not in result.stdout.str()
    assert project.stored == stored
    project.write_test(SIMPLE.replace("new_tokens=24", "k=5, new_tokens=24"))
    project.run("--specdec-update=new", ok=True)
    project.run("--specdec-prune", ok=True)
    assert set(project.stored) >= OF_DEVICE
    assert f"{CASE}.json" not in project.stored


SIMPLE = """
import pytest

@pytest.mark.specdec(target={target!r}, drafter={draft!r}, new_tokens=24)
def test_draft(specdec_run, specdec_baseline):
    assert specdec_run == specdec_baseline
"""


def test_a_device_that_is_not_known_here_is_refused(project) -> None:
    result = project.run(PER_DEVICE, "--specdec-engine=llama-cpp", ok=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    assert "--specdec-baselines-per=device needs the device that engine 'llama-cpp' runs on" in said
