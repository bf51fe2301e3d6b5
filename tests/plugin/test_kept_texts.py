"""Texts of a first run are kept for the next one; which cases have no baseline is said before
anything is measured.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pytest_specdec.engines import kept_texts
from pytest_specdec.engines.own import replay_work as replay

LINE = (
    "specdec: 4 of 4 cases have no baseline: they will be measured and fail; --specdec-update=new "
    "creates baselines "
    "(tests must compare by ==)"
)


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Prompts in each call of the sampler."""
    calls: list[int] = []
    sample = replay.sample_new_tokens

    def counting(target, prompts, **options):
        calls.append(len(prompts))
        return sample(target, prompts, **options)

    monkeypatch.setattr(replay, "sample_new_tokens", counting)
    return calls


def kept(project) -> list[Path]:
    return sorted((project.pytester.path / ".specdec" / "texts").rglob("*.json"))


def test_update_after_a_first_run_samples_nothing_and_writes_the_same_files(
    project, sampled: list[int]
) -> None:
    project.create()
    expected = project.stored
    for folder in ("baselines", ".specdec"):
        shutil.rmtree(project.pytester.path / folder)
    sampled.clear()
    project.run(ok=False).stdout.fnmatch_lines([LINE, "*create it with --specdec-update=new*"])
    assert sampled == [12]
    assert len(kept(project)) == 1
    project.create()
    assert sampled == [12]
    assert project.stored == expected
    project.run(ok=True).stdout.no_fnmatch_line("*no baseline*")
    assert sampled == [12]
    assert kept(project) == []


def test_an_interrupted_update_has_kept_its_texts(project, sampled: list[int]) -> None:
    project.pytester.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_runtest_teardown(item):\n"
        "    if item.config.option.verbose > 2: pytest.exit('enough')\n"
    )
    project.run("--specdec-update=new", "-vvv", ok=False).stdout.fnmatch_lines(
        ["*interrupted: none of * was written*"]
    )
    assert project.stored == {}
    project.create()
    assert sampled == [12]


def test_new_prompts_alone_are_sampled(project, sampled: list[int]) -> None:
    """And the others keep their texts: noise does not depend on the rest of the file."""
    project.run("--specdec-prompts=5", ok=False)
    few = json.loads(kept(project)[0].read_text())["texts"]
    project.run(ok=False)
    assert sampled == [5, 7]
    every = json.loads(kept(project)[0].read_text())["texts"]
    assert len(every) == 12
    assert few.items() <= every.items()


@pytest.mark.parametrize(
    "change",
    [
        "--specdec-seed=1",
        "--specdec-temperature=0.5",
        "--specdec-new-tokens=20",
        "--specdec-dtype=bfloat16",
    ],
)
def test_texts_of_other_settings_are_not_used(project, sampled: list[int], change: str) -> None:
    project.run(ok=False)
    project.run(change, ok=False)
    assert sampled == [12, 12]


def test_texts_of_another_target_are_replaced(project, sampled: list[int], tmp_path: Path) -> None:
    from helpers.support import add_noise

    project.run(ok=False)
    project.run(f"--specdec-target={add_noise(project.target, tmp_path / 'other', 0.1)}", ok=False)
    assert sampled == [12, 12]


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "deep": lambda text: "[" * 100_000,
    "beyond the vocabulary": lambda text: text.replace("[", "[1000000, ", 1),
    "negative": lambda text: text.replace("[", "[-1, ", 1),
    "number": lambda text: text.replace('"seed": 0', '"seed": ' + "9" * 5000),
    "surrogate": lambda text: text.replace('"target": "', '"target": "\\ud800'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_replaced_with_a_note_and_never_an_error(
    project, sampled: list[int], damage: str
) -> None:
    project.run(ok=False)
    (path,) = kept(project)
    whole = path.read_text()
    path.write_text(DAMAGES[damage](whole))
    result = project.run("--specdec-update=new", ok=True)
    assert sampled == [12, 12]
    if damage != "surrogate":  # that one names another target
        result.stdout.fnmatch_lines(["note: kept texts in * have been sampled again*"])
    assert path.read_text() == whole


def test_a_folder_that_cannot_be_written_is_a_note(project) -> None:
    (project.pytester.path / ".specdec").write_text("in the way")
    project.run("--specdec-update=new", ok=True).stdout.fnmatch_lines(
        ["note: sampled texts could not be kept for the next run: *"]
    )


def test_what_is_kept_is_bounded_and_ignored_by_git(
    project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_texts, "MOST_FILES", 2)
    for seed in range(4):
        project.run(f"--specdec-seed={seed}", ok=False)
    assert [path.name.rpartition("-")[0] for path in kept(project)] == ["t1-n24-s2", "t1-n24-s3"]
    assert (project.pytester.path / ".specdec" / "texts" / ".gitignore").read_text() == "*\n"


def test_tests_that_compare_with_nothing_are_not_counted(project) -> None:
    project.write_test(
        "import pytest\n"
        "@pytest.mark.specdec(target={target!r}, drafter={draft!r}, k=4, new_tokens=24)\n"
        "def test_floor(specdec_run):\n"
        "    assert specdec_run.acceptance_length > 1\n"
    )
    project.run(ok=True).stdout.no_fnmatch_line("*no baseline*")
