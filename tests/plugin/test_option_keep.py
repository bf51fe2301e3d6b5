"""--specdec-keep=hashes: no text is stored, no prompt quoted, and the gate still decides."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest
from helpers.support import add_noise
from plugin.conftest import PROMPTS, TEST, Project

HASHES = "--specdec-keep=hashes"


@pytest.fixture(autouse=True)
def one_depth(project: Project) -> None:
    project.write_test(TEST.replace("depth=[0, 2]", "depth=[0]"))


def stored(project: Project) -> list[Path]:
    folders = (project.pytester.path / name for name in ("baselines", ".specdec"))
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def test_records_alone_are_stored_and_an_unchanged_run_is_exact(project: Project) -> None:
    project.create(HASHES)
    files = stored(project)
    assert files
    assert {path.parent.name for path in files}.isdisjoint({"texts", "tokens"})
    text = "".join(path.read_text() for path in files)
    assert not any(f'"{word}"' in text for _, word in PROMPTS)
    again = project.run(HASHES, "--specdec-report=out.json", ok=True)
    rows = json.loads((project.pytester.path / "out.json").read_text())["cases"]
    assert {row["verdict"] for row in rows} == {"pass"}
    assert {row["drop"] for row in rows} == {0}
    assert stored(project) == files
    assert again.ret == 0


def quoted(project: Project, *arguments: str) -> tuple[str, set[str]]:
    """What a failing run shows in all places, and the prompts that it quotes there."""
    kinds = ("html", "md", "json", "txt")
    reports = [f"--specdec-report=out.{kind}" for kind in kinds]
    result = project.run(*arguments, *reports, "--junitxml=out.xml", ok=False)
    shown = result.stdout.str() + "".join(
        html.unescape((project.pytester.path / f"out.{kind}").read_text())
        for kind in (*kinds, "xml")
    )
    return shown, {word for _, word in PROMPTS if f"'{word}'" in shown}


def test_a_failure_names_hashes_and_quotes_nothing(project: Project, tmp_path: Path) -> None:
    project.create()
    worse = f"--specdec-draft={add_noise(project.draft, tmp_path / 'noisy', 0.1)}"
    shown, words = quoted(project, worse)
    assert words
    assert "drafted by head" in shown
    shown, words = quoted(project, worse, HASHES)
    assert not words
    assert "regressed" in shown
    assert "lost most" in shown
    assert "drafted by head" not in shown
