"""Right servers that differ in all that right servers differ in are never called wrong: those that once
were, and some more. `make output-level` runs 2,000.
"""

from __future__ import annotations

import pytest
from output_level import of_letters, of_models

ONCE_ACCUSED = (7, 20, 31, 97, 339, 430, 572, 721, 861)
"""Texts that part at a tie: in a stream, before a stop, under a grammar that is ignored."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", ONCE_ACCUSED)
def test_a_server_that_was_once_accused_is_not(seed: int) -> None:
    found = of_letters([seed])
    assert {name: outcomes["failed"] for name, outcomes in found.items()} == dict.fromkeys(found, 0)


def test_every_check_judges_some_right_servers() -> None:
    found = of_letters(range(3000, 3012))
    assert len(found) == 7
    assert all(outcomes["failed"] == 0 for outcomes in found.values())
    assert all(outcomes["ok"] > 0 for outcomes in found.values())


def test_right_engines_of_numbers_are_not_called_wrong() -> None:
    found = of_models(range(3000, 3006))
    assert len(found) == 6
    assert all(outcomes["failed"] == 0 for outcomes in found.values())
    assert all(outcomes["ok"] > 0 for outcomes in found.values())
