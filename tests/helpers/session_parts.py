"""Stand-ins for pytest's objects, for session parts that are tested without a session."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pytest_specdec.cases.case import Case
from pytest_specdec.config.settings import OptionValues, Settings


def settings(root: Path = Path("/root"), **command_line: Any) -> Settings:
    """Settings of a command line alone."""
    return Settings(OptionValues(**command_line), OptionValues(), root, root)


def item(nodeid: str, *cases: Case, fixtures: tuple[str, ...] = (), marks: tuple[str, ...] = ()):
    """A test, of a case if one is given."""
    marked = {name: object() for name in marks}
    parts: dict[str, Any] = {
        "nodeid": nodeid,
        "fixturenames": fixtures,
        "get_closest_marker": marked.get,
    }
    if cases:
        parts["callspec"] = SimpleNamespace(params={"specdec_case": cases[0]})
    return SimpleNamespace(**parts)


class Terminal:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, tuple[str, ...]]] = []

    def section(self, title: str) -> None:
        self.lines.append((title, ("section",)))

    def write_line(self, line: str, **markup: bool) -> None:
        self.lines.append((line, tuple(markup)))

    @property
    def text(self) -> str:
        return "\n".join(line for line, _ in self.lines)
