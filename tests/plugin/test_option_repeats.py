"""--specdec-repeats: several runs in one baseline, each with a seed of its own."""

from __future__ import annotations

import json

import pytest
from helpers.support import add_noise
from plugin.conftest import TEST

CELL = ("--specdec-k=4", "--specdec-depth=0")
NAME = "letters/tiny-draft-k4-depth0-t1.json"
TEXTS = {f"letters/texts/t1-n24-s{seed}.json" for seed in range(3)}


@pytest.fixture
def repeated(project):
    project.create(*CELL, "--specdec-repeats=3")
    return project


def test_a_baseline_holds_every_run_and_its_texts(repeated) -> None:
    assert set(repeated.baselines) == {NAME} | TEXTS
    stored = json.loads(repeated.baselines[NAME])
    assert (stored["repeats"], len(stored["again"])) == (3, 2)
    runs = [stored["counts"], *stored["again"]]
    assert len({run.keys() == runs[0].keys() for run in runs}) == 1
    texts = [{row["text"] for row in run.values()} for run in runs]
    assert all(not first & second for first, second in [(texts[0], texts[1]), (texts[1], texts[2])])


@pytest.mark.parametrize("again", [(), ("--specdec-repeats=2",), ("--specdec-repeats=3",)])
def test_unchanged_runs_pass_on_the_same_texts(repeated, again: tuple[str, ...]) -> None:
    (row,) = repeated.report(*CELL, *again)
    assert (row["verdict"], row["reason"]) == ("pass", "unchanged")


def test_more_runs_than_are_stored_are_other_texts(repeated) -> None:
    (row,) = repeated.report(
        *CELL, "--specdec-repeats=4", "--specdec-alpha=5%", "--specdec-margin=50%"
    )
    assert row["p_value"] is not None
    assert row["verdict"] in ("pass", "inconclusive")


def test_a_worse_drafter_fails_on_the_first_runs_texts(repeated, tmp_path) -> None:
    noisy = add_noise(repeated.draft, tmp_path / "noisy-draft", 0.1)
    (row,) = repeated.report(*CELL, f"--specdec-draft={noisy}")
    assert (row["verdict"], row["p_value"]) == ("regressed", None)


def test_greedy_cases_run_once(project) -> None:
    project.create(*CELL, "--specdec-repeats=3", "--specdec-temperature=0")
    (name,) = [name for name in project.baselines if "texts" not in name]
    assert json.loads(project.baselines[name])["repeats"] == 1


def test_the_ini_file_can_ask_for_repeats(project) -> None:
    project.pytester.makeini("[pytest]\naddopts = --strict-markers\nspecdec_repeats = 2\n")
    project.create(*CELL)
    assert json.loads(project.baselines[NAME])["repeats"] == 2


def test_an_update_keeps_the_number_of_runs(repeated, tmp_path) -> None:
    before = repeated.stored
    repeated.run(*CELL, "--specdec-update=changed", ok=True)
    assert repeated.stored == before
    noisy = add_noise(repeated.draft, tmp_path / "noisy-draft", 0.1)
    repeated.run(*CELL, f"--specdec-draft={noisy}", "--specdec-update=changed", ok=True)
    assert json.loads(repeated.baselines[NAME])["repeats"] == 3


def test_pruning_keeps_the_texts_of_a_record_that_is_just_written(repeated) -> None:
    name = "letters/tiny-draft-k6-depth0-t1.json"
    repeated.write_test(TEST.replace("k=[4, 8], depth=[0, 2]", "k=6"))
    repeated.run("--specdec-update=new", "--specdec-repeats=3", "--specdec-prune", ok=True)
    assert set(repeated.baselines) == {name} | TEXTS
    repeated.run("--specdec-repeats=3", ok=True)
