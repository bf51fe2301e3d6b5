"""Exhibits and conformance on the real pair: what is kept of them is what the page shows, and many draws
are scored as one is.
"""

from __future__ import annotations

import conformance_real_pair
import museum_real_pair
import numpy as np
import pytest
import torch
from helpers.support import ROOT

from pytest_specdec.lossless.texts.token_scores import TokenDistributions

PAGE = (ROOT / "docs" / "real-model-claims.md").read_text()


def test_the_page_shows_the_rows_that_are_kept() -> None:
    results = conformance_real_pair.Results(conformance_real_pair.RESULTS)
    museum = museum_real_pair.table(museum_real_pair.read_rows())
    assert "\n".join(museum) in PAGE
    assert "\n".join(conformance_real_pair.tables(results)) in PAGE


def test_no_right_twin_is_accused() -> None:
    """As the page claims. Few sampled texts leave the gate undecided."""
    rows = {row["name"]: row for row in museum_real_pair.read_rows()}
    for name, (before, _) in museum_real_pair.right_twins().items():
        row = rows[name]
        assert row["verdict"] == ("pass" if before.temperature == 0 else "inconclusive")
        assert not row["oracle"]
        assert not row["texts"]


def test_what_is_another_than_in_the_museum_is_shown() -> None:
    assert museum_real_pair.HERE.keys() <= {exhibit.name for exhibit in museum_real_pair.SHOWN}


def test_ranked_distributions_score_as_others() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 50, generator=generator).double().round(decimals=1)  # with ties
    log_p, log_q = torch.log_softmax(logits, -1)
    tokens = torch.randint(50, (7,), generator=generator)
    ranked = conformance_real_pair.RankedDistributions(log_p, log_q).draws(tokens)
    plain = TokenDistributions(log_p, log_q).draws(tokens)
    assert ranked.below == pytest.approx(plain.below, abs=1e-14)
    for name, odds in plain.mixed.items():
        assert (ranked.mixed[name] == odds).all()


@pytest.mark.parametrize("name", ["a higher temperature", "some tokens uniform"])
def test_strengths_make_the_total_variation(name: str) -> None:
    """Between the steps of the grid, too."""
    logits = torch.randn(2, 64, 40, generator=torch.Generator().manual_seed(1))
    places = conformance_real_pair.Scored(None, *torch.log_softmax(logits, -1))
    grid = conformance_real_pair.strengths_of(places)[name]
    strength = conformance_real_pair.strength_at(0.02, name, *grid)
    found = [contexts.variation(contexts.wrong()[name][0](strength)) for contexts in places.parts()]
    assert np.mean(found) == pytest.approx(0.02, rel=0.02)
