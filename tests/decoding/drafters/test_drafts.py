"""The drafts of a round, as greedy verification takes them and as every rule does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_specdec.cases.case import Sampling
from pytest_specdec.common.errors import MeasurementError
from pytest_specdec.decoding.distributions import likeliest, one_hot
from pytest_specdec.decoding.drafters.drafts import Drafts
from pytest_specdec.decoding.drafters.protocol import CertainProposal
from pytest_specdec.decoding.ragged import Sequences
from pytest_specdec.decoding.verification import greedy, matched

VOCABULARY, K, ROWS = 11, 4, 64


def test_distributions_of_certain_drafts_are_zero_where_a_row_has_no_more() -> None:
    proposal = CertainProposal(torch.tensor([[3, 1], [2, 0]]), np.array([2, 1]), VOCABULARY)
    q = proposal.distributions
    assert q.shape == (2, 3, VOCABULARY)
    assert q.nonzero().tolist() == [[0, 0, 3], [0, 1, 1], [1, 0, 2]]
    assert q.sum() == 3
    assert proposal.distributions is q


def test_greedy_verification_without_distributions_is_the_rules() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, K + 1, VOCABULARY, generator=generator)
    own = likeliest(logits)
    tokens = torch.where(
        torch.rand(ROWS, K, generator=generator) < 0.7, own[:, :-1], torch.tensor(5)
    )
    drafted = np.random.default_rng(0).integers(0, K + 1, ROWS)
    proposal = CertainProposal(tokens, drafted, VOCABULARY)
    accepted, following = matched(own, tokens, proposal.proposed)
    wanted = greedy(one_hot(own, VOCABULARY), proposal.distributions, tokens, None)
    assert torch.equal(accepted, wanted[0])
    assert torch.equal(following, wanted[1])
    assert set(accepted.tolist()) == set(range(K + 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_likeliest_token_is_the_first_arg_max(dtype: torch.dtype) -> None:
    logits = torch.randint(0, 5, (ROWS, 3, 5_000)).to(dtype)
    assert torch.equal(likeliest(logits), logits.argmax(-1))
    logits[0, 0, 17] = torch.nan
    assert likeliest(logits)[0, 0] == 17


def test_drafts_at_temperature_0_are_certain_and_others_are_not() -> None:
    for temperature, certain in ((0.0, True), (1.0, False)):
        sequences = Sequences([[1, 2], [3]], K, torch.device("cpu"))
        drafts = Drafts(sequences, Sampling(temperature), K, torch.Generator().manual_seed(0))
        for _ in range(K):
            drafts.take(torch.randn(2, VOCABULARY))
        proposal = drafts.proposal()
        assert isinstance(proposal, CertainProposal) == certain
        q = proposal.distributions
        torch.testing.assert_close(q.sum(-1), torch.tensor([[1.0] * K + [0.0]] * 2))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_drafter_that_returns_nan_does_not_pass_for_a_poor_one(temperature: float) -> None:
    drafts = Drafts(
        Sequences([[1, 2], [3]], 1, torch.device("cpu")), Sampling(temperature), 1, None
    )
    logits = torch.randn(2, VOCABULARY)
    logits[1, 4] = torch.nan
    drafts.take(logits)
    with pytest.raises(MeasurementError, match="NaN or infinite logits; check its weights"):
        drafts.proposal()
