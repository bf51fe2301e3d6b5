"""Fixtures of the tests of our own engines."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The passes that replay makes over texts, one entry for each."""
    from pytest_specdec.engines.own import replay_engine

    made: list[Any] = []
    text_scores = replay_engine.text_scores

    def recorded(*given: Any, **options: Any) -> Any:
        made.append(given)
        return text_scores(*given, **options)

    monkeypatch.setattr(replay_engine, "text_scores", recorded)
    return made
