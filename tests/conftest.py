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

HERE = Path(__file__).parent
SLOW = ("museum", "models", "plugin", "suites")
"""Folders whose tests run pytest inside pytest, decode thousands of rounds or train: `-m "not slow"`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).parts[0] in SLOW:
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the real engines that no test of this run exercised, so that green is not read as more."""
    from helpers.real_engine import PACKAGES

    reasons = {str(report.longrepr) for report in terminalreporter.stats.get("skipped", ())}
    missing = [
        engine
        for engine, package in PACKAGES.items()
        if any(f"{package} is not installed" in reason for reason in reasons)
    ]
    if missing:
        terminalreporter.write_line(
            f"not exercised here: {', '.join(missing)}; `make engines` and `make engines-vllm` run them"
        )


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
