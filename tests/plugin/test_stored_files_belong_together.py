"""Stored files that were swapped or edited turn no gate green (faults A1, A5)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from helpers.support import add_noise

from pytest_specdec.baselines.writing import digest_of

CELL = ("--specdec-k=4", "--specdec-depth=0")


@pytest.fixture
def judged(project, tmp_path: Path):
    """Baselines of both temperatures, and the option that names a worse draft."""
    for temperature in ("0", "1"):
        project.create(*CELL, f"--specdec-temperature={temperature}")
    return project, f"--specdec-draft={add_noise(project.draft, tmp_path / 'noisy-draft', 0.1)}"


def files(project) -> tuple[Path, Path]:
    folder = project.pytester.path / "baselines" / "letters" / "texts"
    return folder / "t0-n24-s0.json", folder / "t1-n24-s0.json"


def refusal(project, *options: str) -> str:
    """What a run says that must not pass."""
    result = project.run(*options, *CELL, ok=False)
    assert "improved" not in result.stdout.str()
    return result.stdout.str() + result.stderr.str()


def replace_texts(project, *, sealed: bool) -> None:
    """Put the greedy texts in place of the sampled ones; `sealed` with the digest that goes with
    them.
    """
    greedy, sampled = files(project)
    data = json.loads(sampled.read_text()) | {"texts": json.loads(greedy.read_text())["texts"]}
    if sealed:
        data["digest"] = digest_of(data)
    sampled.write_text(json.dumps(data))


def test_texts_of_another_file_are_refused_by_the_digest(judged) -> None:
    project, worse = judged
    replace_texts(project, sealed=False)
    message = refusal(project, worse)
    assert "t1-n24-s0.json:" in message
    assert "the content is not what was written" in message


def test_texts_that_are_not_the_records_are_an_error_under_an_unchanged_target(judged) -> None:
    project, worse = judged
    replace_texts(project, sealed=True)
    for draft in ((), (worse,)):
        message = refusal(project, *draft)
        assert (
            "the texts are not those of the record" in message
            or "the texts are not this target's" in message
        )


def test_a_whole_file_of_other_settings_is_refused(judged) -> None:
    project, worse = judged
    greedy, sampled = files(project)
    sampled.write_text(greedy.read_text())
    assert "holds texts of temperature 0.0, but its file name means 1.0" in refusal(project, worse)


def test_missing_texts_are_sampled_again_and_must_be_those_of_the_record(judged) -> None:
    project, worse = judged
    files(project)[1].unlink()
    project.run(*CELL, ok=True)  # the same seed gives the same texts
    project.run(worse, *CELL, ok=False).stdout.fnmatch_lines(["*acceptance_length regressed*"])


def test_another_seed_is_another_sample_and_no_error(judged) -> None:
    project, _ = judged
    project.run(*CELL, "--specdec-seed=5", "--specdec-margin=90%", ok=True)


def test_the_record_of_another_drafter_is_refused(judged) -> None:
    project, _ = judged
    path = project.pytester.path / "baselines" / "letters" / "tiny-draft-k4-depth0-t1.json"
    data = json.loads(path.read_text()) | {"case": "weak-draft-k4-depth0-t1"}
    path.write_text(json.dumps(data | {"digest": digest_of(data)}))
    assert "belongs to case weak-draft-k4-depth0-t1" in refusal(project)


def test_files_of_schema_1_are_read_and_named(judged) -> None:
    project, _ = judged
    for path in (project.pytester.path / "baselines").rglob("*.json"):
        data = json.loads(path.read_text())
        for name in ("digest", "case"):
            data.pop(name, None)
        if "conditions" in data:
            del data["seed"]
        path.write_text(json.dumps(data | {"schema": 1}))
    result = project.run(*CELL, ok=True)
    result.stdout.fnmatch_lines(
        ["note: baselines of an older schema*rewrite them with: *migrate baselines"]
    )
    assert (
        project.pytester.run(
            sys.executable, "-m", "pytest_specdec", "baseline", "migrate", "baselines"
        ).ret
        == 0
    )
    assert "older schema" not in project.run(*CELL, ok=True).stdout.str()
