"""Fixtures of the tests of our own engines."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The passes that replay makes over texts, one entry for each."""
    from pytest_specdec.engines.own.replay_work import Scoring

    made: list[Any] = []
    opened = Scoring.opened

    def recorded(work: Scoring, *given: Any) -> Any:
        made.append(work)
        return opened(work, *given)

    monkeypatch.setattr(Scoring, "opened", recorded)
    return made
