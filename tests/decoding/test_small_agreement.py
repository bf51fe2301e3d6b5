"""A short version of the second table of `docs/agreement.md`: drafters of the kinds that no trained
checkpoint is kept of, fitted for some seconds.
"""

from __future__ import annotations

import numpy as np
import pytest
from agreement import PAGE, RULES, agree
from helpers.fitted import WRITERS, K, SmallPairs
from helpers.tiers import exhaustive, some

from pytest_specdec.cases.case import Sampling

pytestmark = pytest.mark.slow
FEW = 600


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> SmallPairs:
    return SmallPairs.make(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("rules", [RULES[:1], exhaustive(RULES[1:])], ids=",".join)
@pytest.mark.parametrize("name", some(WRITERS, 2))
def test_decoding_agrees_with_replay(pairs: SmallPairs, name: str, rules: tuple[str, ...]) -> None:
    """Round for round at temperature 0, and within three standard errors by every rule."""
    greedy = agree(pairs, name, "greedy", Sampling(0), rounds=FEW)
    assert greedy.rounds > 300
    assert greedy.unequal == 0
    for rule in rules:
        cell = agree(pairs, name, rule, Sampling(1.0), rounds=FEW)
        assert cell.k == K
        assert cell.rounds >= FEW
        assert np.nanmax(np.abs(cell.z)) < 3, f"{rule}: {cell.z.round(2)} standard errors"
        assert cell.unequal > 0  # the rounds are random; only their expectation is replay's
        assert f"| {name} | {K} | {rule} | t1 |" in PAGE.read_text()
