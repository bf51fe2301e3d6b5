from __future__ import annotations

import pytest
from pair import Pair


@pytest.fixture(scope="session")
def pair() -> Pair:
    return Pair.load()
