"""These cases run where they are named (`pytest suites/engines/smollm2`): a real model takes an
engine minutes, and its checkpoints are not in a clone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMES = ("target", "exit-20", "eagle3", "mtp")
CHECKPOINTS = [HERE.parents[1] / "smollm2" / "models" / name for name in NAMES]


def is_named(config: pytest.Config) -> bool:
    """Whether the command line names this folder or something in it."""
    named = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return any(path.is_relative_to(HERE) for path in named)


def pytest_configure(config: pytest.Config) -> None:
    if is_named(config) and not all(folder.is_dir() for folder in CHECKPOINTS):
        raise pytest.UsageError(
            "suites/engines/smollm2 has no checkpoints; run: "
            "python suites/smollm2/build.py exit-20 eagle3 mtp"
        )


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if is_named(config) else True
