"""Fixtures of all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def tiny_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with two MTP layers."""
    from support import llama

    return llama(tmp_path_factory.mktemp("models") / "tiny-target", seed=1)


@pytest.fixture(scope="session")
def tiny_draft(tiny_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target with noise on its weights: a drafter that further noise makes worse."""
    from support import add_noise

    return add_noise(tiny_target, tmp_path_factory.mktemp("models") / "tiny-draft", 0.3)
