"""Fixtures of the tests of engines in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_specdec.cases.case import Case


@pytest.fixture
def case(tiny_target: Path, tiny_draft: Path, tmp_path: Path) -> Case:
    """The tiny pair on four words; k 4, depth 0, temperature 1."""
    from helpers.fruit import fruit_case

    return fruit_case(tiny_target, tiny_draft, tmp_path)
