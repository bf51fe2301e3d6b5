"""Runs where it is named (`pytest suites/smollm2`), so a run of all suites stays fast."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def is_named(config: pytest.Config) -> bool:
    """Whether the command line names this folder or something in it."""
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return any(path.is_relative_to(HERE) for path in named)


def pytest_configure(config: pytest.Config) -> None:
    if is_named(config) and not (HERE / "models" / "target").is_dir():
        raise pytest.UsageError(
            "suites/smollm2 has no checkpoints here; run: python suites/smollm2/build.py"
        )


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if is_named(config) else True
