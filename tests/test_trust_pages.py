"""Every line of the threat model and of the page on trust names a test or command that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("docs/threat-model.md", "docs/trust.md")


@pytest.mark.parametrize("page", PAGES)
def test_every_named_test_exists(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / page).read_text("utf-8"))
    assert named
    for file, test in named:
        code = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in code, f"{file}::{test}"


def test_every_named_command_exists() -> None:
    page = (ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([\w-]+)", page):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for file in re.findall(r"`python (\S+\.py)", page):
        assert (ROOT / file).is_file(), file


def test_every_line_of_the_threat_model_is_shown() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        assert "`tests/" in row.split("|")[4] or "trusted" in row.split("|")[4], row
