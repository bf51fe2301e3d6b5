"""What a report says of its session: the command, when, at which commit, with which versions."""

from __future__ import annotations

from typing import TypedDict


class SessionFacts(TypedDict):
    """Plain values, fit to print; empty where a fact is not known."""

    command: str
    """The command line, without credentials."""
    date: str
    """When the report was written, UTC, ISO 8601 to the second."""
    commit: str
    """HEAD of the git repository of the tests."""
    version: str
    """Of pytest-specdec."""
    python: str
    platform: str
