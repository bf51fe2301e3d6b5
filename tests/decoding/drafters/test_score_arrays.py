"""Scores of given texts by a head that drafts some of the target's tokens: computed among those,
they are what all tokens would give.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.decoding.distributions import log_distributions
from pytest_specdec.decoding.drafters.protocol import DraftScores, TextBatch
from pytest_specdec.decoding.drafters.score_arrays import ScoreArrays

VOCABULARY, LENGTH, BEGIN = 40, 12, 3
DRAFTED = torch.tensor([31, 2, 17, 5, 8, 39, 11, 0, 23, 29])
"""Not in order."""


def batch_of(sampling: Sampling, rules: tuple[str, ...] = ()) -> TextBatch:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCABULARY, (5, LENGTH), generator=generator)
    ids[:, ::2] = DRAFTED[torch.randint(len(DRAFTED), (5, LENGTH // 2), generator=generator)]
    logits = torch.randn(5, LENGTH - BEGIN, VOCABULARY, generator=generator)
    texts = [
        Text(key=str(number), category="", ids=tuple(row), prompt_length=BEGIN)
        for number, row in enumerate(ids.tolist())
    ]
    return TextBatch(
        texts=texts,
        ids=ids,
        begin=BEGIN,
        steps=1,
        sampling=sampling,
        hidden_states=None,
        target=log_distributions(logits, sampling) if rules else None,
        rules=rules,
        greedy=sampling.temperature == 0,
    )


def scores(batch: TextBatch, logits: torch.Tensor, *, among_drafted: bool) -> DraftScores:
    arrays = ScoreArrays(batch, 1)
    if among_drafted:
        arrays.fill(0, BEGIN, logits, DRAFTED)
    else:
        whole = torch.full((*logits.shape[:-1], VOCABULARY), -torch.inf)
        whole[..., DRAFTED] = logits
        arrays.fill(0, BEGIN, whole)
    return arrays.scores()


@pytest.mark.parametrize(
    "sampling",
    [Sampling(0.0), Sampling(1.0), Sampling(0.7, 4), Sampling(1.3, 6, 0.8), Sampling(1.0, 0, 0.6)],
    ids=str,
)
def test_scores_among_the_drafted_tokens_are_those_among_all(sampling: Sampling) -> None:
    rules = ("greedy",) if sampling.temperature == 0 else ("rejection", "sample-match")
    batch = batch_of(sampling, rules)
    logits = torch.randn(
        5, LENGTH - BEGIN, len(DRAFTED), generator=torch.Generator().manual_seed(2)
    )
    few = scores(batch, logits, among_drafted=True)
    all_of_them = scores(batch, logits, among_drafted=False)
    np.testing.assert_allclose(few.log_q, all_of_them.log_q, atol=1e-6)
    assert 0 < np.isfinite(few.log_q).mean() < 1
    if sampling.temperature == 0:
        assert few.smoothed is not None
        assert all_of_them.smoothed is not None
        np.testing.assert_allclose(few.smoothed, all_of_them.smoothed, atol=1e-5)
    assert few.overlaps.keys() == set(rules)
    for rule in rules:
        np.testing.assert_allclose(few.overlaps[rule], all_of_them.overlaps[rule], atol=1e-6)


def test_nan_is_refused_also_where_no_text_has_a_drafted_token() -> None:
    batch = batch_of(Sampling(1.0))
    batch.ids[:] = 1
    assert 1 not in DRAFTED
    logits = torch.zeros(5, LENGTH - BEGIN, len(DRAFTED))
    logits[2, 4, 3] = torch.nan
    with pytest.raises(MeasurementError, match="NaN"):
        scores(batch, logits, among_drafted=True)
