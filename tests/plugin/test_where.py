"""The message's lines on single tokens and contexts, and the stored files that they need, which decide
nothing.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.support import add_noise
from plugin.conftest import facts

CELL = ("--specdec-k=4", "--specdec-depth=2")
OF_ANOTHER = {
    "tokens": "not listed: the stored acceptance by token is damaged or belongs to another baseline; "
    "--specdec-update=changed rewrites it with the record"
}
FILES = {f"letters/tokens/tiny-draft-head{head}-t1-n24-s0.json" for head in range(3)}


@pytest.fixture
def noisy(project, tmp_path: Path) -> str:
    return f"--specdec-draft={add_noise(project.draft, tmp_path / 'noisy-draft', 0.1)}"


def diagnosis(project, *arguments: str) -> dict[str, str]:
    """The failure's lines on tokens and contexts."""
    lines = facts(project.run(*CELL, *arguments, ok=False).stdout.lines)
    return {
        label: line[13:]
        for label in ("tokens", "contexts")
        for line in lines
        if line.startswith(f"  {label} ")
    }


def test_a_baseline_brings_one_file_for_each_head_that_drafts(project) -> None:
    project.create()
    assert {name for name in project.stored if "/tokens/" in name} == FILES
    for name in FILES:
        data = json.loads(project.stored[name])
        assert len(data["tokens"]) == 12
        # The prompt pass emits the first of 24 new tokens; the rest can be drafted, by later heads
        # after a start.
        assert {len(row["accept"]) for row in data["tokens"].values()} == {23}


def test_a_loss_is_reported_by_token_and_by_context(project, noisy: str) -> None:
    project.create()
    by_label = diagnosis(project, noisy)
    assert re.fullmatch(
        r"acceptance fell most at ('.+?' drafted by head [012] \(\d+ times, \d\.\d{3} -> "
        r"\d\.\d{3}\)(, |$)){3}",
        by_label["tokens"],
    )
    assert re.match(r"acceptance after \d+ to \d+ tokens [+-]\d+\.\d\d %", by_label["contexts"])


def test_the_tokens_of_another_drafter_name_none(project, noisy: str, tmp_path: Path) -> None:
    """Tokens of a drafter that was recorded after the judged baseline are not its own."""
    project.create()
    project.run("--specdec-k=8", noisy, "--specdec-update=changed", ok=True)
    worse = add_noise(project.draft, tmp_path / "worse-draft", 2.0)
    assert diagnosis(project, f"--specdec-draft={worse}") == OF_ANOTHER


@pytest.mark.parametrize("damage", [None, "{", '{"schema": 1, "drafter": "x", "tokens": {}}'])
def test_missing_or_damaged_files_change_no_verdict(
    project, noisy: str, damage: str | None
) -> None:
    project.create()
    project.run(*CELL, ok=True)
    for name in FILES:
        path = project.pytester.path / "baselines" / name
        path.unlink() if damage is None else path.write_text(damage)
    project.run(*CELL, ok=True)
    assert diagnosis(project, noisy) == ({} if damage is None else OF_ANOTHER)


def test_an_update_writes_what_is_missing_for_records_that_stay(project) -> None:
    project.create()
    before = project.stored
    for name in FILES:
        (project.pytester.path / "baselines" / name).unlink()
    project.run("--specdec-update=changed", ok=True)
    assert project.stored == before


def test_prompt_lookup_has_no_heads_to_report(project) -> None:
    text = (
        "import pytest\n\n@pytest.mark.specdec(target={target!r}, drafter='prompt-lookup', k=4, "
        "temperature=0.4, new_tokens=48)\n"
    )
    project.write_test(
        text + "def test_lookup(specdec_run, specdec_baseline):\n    assert specdec_run == "
        "specdec_baseline\n"
    )
    project.create()
    assert not any("/tokens/" in name for name in project.stored)
