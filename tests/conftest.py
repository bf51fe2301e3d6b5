"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers.embedded import Pair

# Before anything imports torch: the models are tiny, and two threads beside another busy process
# thrash.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["pytester"]


@pytest.fixture(scope="session")
def pair() -> Pair:
    """The embedded pair with the suite's prompts."""
    from helpers.embedded import Pair

    return Pair.load()


@pytest.fixture(scope="session")
def tiny_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with two MTP layers."""
    from helpers.support import llama

    return llama(tmp_path_factory.mktemp("models") / "tiny-target", seed=1)


@pytest.fixture(scope="session")
def tiny_draft(tiny_target: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target with noise on its weights: a drafter that further noise makes worse."""
    from helpers.support import add_noise

    return add_noise(tiny_target, tmp_path_factory.mktemp("models") / "tiny-draft", 0.3)
