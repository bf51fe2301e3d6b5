from __future__ import annotations

import pytest
from helpers.embedded import Pair


@pytest.fixture(scope="session")
def pair() -> Pair:
    return Pair.load()
