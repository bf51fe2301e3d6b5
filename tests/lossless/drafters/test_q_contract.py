"""Drafts must follow the distribution that is reported for them: correct drafters pass, all known
breaches are found.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.tiers import some
from scipy import stats
from torch import Tensor

from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.lossless.drafters.q_contract import (
    assert_q_contract,
    exact_q_contract,
    q_contract,
)
from pytest_specdec.lossless.enumeration.paths import NotEnumerableError
from pytest_specdec.lossless.samplers.sampler import ContractError

LOGITS = torch.tensor(
    [[1.0, 0.3, -0.5, -2.0], [0.2, -1.0, 0.9, 0.1], [-0.4, 0.8, 0.0, 0.5], [0.0, 0.1, -0.1, 1.2]]
)
"""Rows by the token before, as a bigram drafter has them."""
K = 3
Generator = torch.Generator | None


def bigram(
    distribution: Callable[[Tensor], Tensor],
    reported: Callable[[Tensor], Tensor],
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """A round of k drafts, drawn from one distribution of the logits while another is reported."""
    tokens, distributions, token = [], [], 0
    for _ in range(K):
        distributions.append(reported(LOGITS[token]))
        drawn = torch.multinomial(distribution(LOGITS[token]), 1, generator=generator)
        token = int(drawn)
        tokens.append(token)
    return torch.tensor(tokens), torch.stack(distributions)


def softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def one_hot(logits: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(logits.argmax(-1), len(logits)).float()


def top_2(logits: Tensor) -> Tensor:
    return logits.masked_fill(logits < logits.topk(2).values[-1], -torch.inf).softmax(-1)


def honest(generator: Generator = None) -> tuple[Tensor, Tensor]:
    return bigram(softmax, softmax, generator)


def filtered(generator: Generator = None) -> tuple[Tensor, Tensor]:
    return bigram(top_2, top_2, generator)


def greedy(generator: Generator = None) -> tuple[Tensor, Tensor]:
    return bigram(one_hot, one_hot, generator)


def colder(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """Drawn at temperature 0.7, reported at 1."""
    return bigram(lambda logits: softmax(logits / 0.7), softmax, generator)


def raw_q(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """huggingface/transformers#47932: drawn from processed logits, raw ones reported."""
    return bigram(top_2, softmax, generator)


def softmax_q(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """huggingface/transformers#32867: greedy drafts with a softmax for q."""
    return bigram(one_hot, softmax, generator)


def narrower_q(generator: Generator = None) -> tuple[Tensor, Tensor]:
    return bigram(softmax, top_2, generator)


def in_bfloat16(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """deepseek-ai/DeepSpec#31: drawn in bfloat16, reported in float32."""
    return bigram(lambda logits: softmax(logits.bfloat16()).float(), softmax, generator)


def better_of_two(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """apple/ml-recurrent-drafter#6: what a search returned is not a sample of q."""
    distribution = softmax(LOGITS[0])
    pair = torch.multinomial(distribution, 2, replacement=True, generator=generator).tolist()
    best = max(pair, key=lambda token: distribution[token].item())
    return torch.tensor([best]), distribution[None]


def chosen_by_its_draft(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """Right in the mean of both distributions, and wrong in each."""
    token = torch.multinomial(torch.tensor([0.5, 0.5]), 1, generator=generator)
    return token, torch.tensor([[0.9, 0.1]] if int(token) else [[0.1, 0.9]])


def of_another_row(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """Two contexts, and the distribution of the one reported for the other."""
    distributions = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    row = int(torch.multinomial(torch.tensor([0.5, 0.5]), 1, generator=generator))
    return torch.multinomial(distributions[row], 1, generator=generator), distributions[1 - row][
        None
    ]


def looked_up(generator: Generator = None) -> tuple[Tensor, Tensor]:
    """Drafts that are given, as prompt lookup's are, in another context each time."""
    token = torch.multinomial(torch.tensor([0.3, 0.7]), 1, generator=generator)
    return token, torch.nn.functional.one_hot(token, 2).float()


HONEST = [looked_up, honest, filtered, greedy]
BREACHES = [
    colder,
    raw_q,
    softmax_q,
    narrower_q,
    better_of_two,
    chosen_by_its_draft,
    of_another_row,
]


@pytest.mark.parametrize("propose", HONEST)
@pytest.mark.parametrize("method", ["exact", "sampled"])
def test_honest_drafters_pass(propose: Callable, method: str) -> None:
    result = assert_q_contract(propose, method=method, rounds=400)
    assert result.kept
    assert result.error == 0


@pytest.mark.parametrize("propose", [*BREACHES, in_bfloat16])
def test_breaches_are_found_exactly(propose: Callable) -> None:
    with pytest.raises(
        AssertionError,
        match=r"breaks the q contract: after \[.* is drafted with probability .* report the "
        r"distribution",
    ):
        assert_q_contract(propose, method="exact")


@pytest.mark.parametrize("propose", some(BREACHES, 2))
def test_breaches_are_found_from_samples(propose: Callable) -> None:
    with pytest.raises(
        AssertionError, match=r"breaks the q contract: draft.* report the distribution"
    ):
        assert_q_contract(propose, method="sampled")


def test_the_exact_error_is_right() -> None:
    result = exact_q_contract(colder)
    expected = (softmax(LOGITS[0] / 0.7) - softmax(LOGITS[0])).abs().sum().item() / 2
    assert result.error == pytest.approx(expected, rel=1e-5)
    assert result.message.startswith("after []")


def test_rounding_is_far_too_small_for_samples_and_not_for_enumeration() -> None:
    result = exact_q_contract(in_bfloat16)
    assert 1e-5 < result.error < 1e-2
    assert assert_q_contract(in_bfloat16, method="sampled", rounds=500).kept


@pytest.mark.parametrize("rows", [1, 3])
def test_one_distribution_for_each_draft(rows: int) -> None:
    def propose(generator: Generator = None) -> tuple[Tensor, Tensor]:
        distribution = torch.tensor([0.5, 0.5])
        return torch.multinomial(
            distribution, 2, replacement=True, generator=generator
        ), distribution.repeat(rows, 1)

    with pytest.raises(RequestError, match=f"2 drafts and {rows} distributions; give"):
        exact_q_contract(propose)


def test_auto_falls_back() -> None:
    def opaque(generator: Generator = None) -> tuple[Tensor, Tensor]:
        distribution = torch.tensor([0.25, 0.75])
        return (torch.randn(1, generator=generator) > 0.6744898).logical_not().long(), distribution[
            None
        ]

    assert assert_q_contract(opaque, rounds=500).z != 0
    with pytest.raises(NotEnumerableError, match="randn"):
        assert_q_contract(opaque, method="exact")


def test_drafters_of_numpy_and_of_many_rows() -> None:
    def rows(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        distributions = rng.dirichlet(np.ones(5), (64, K))
        tokens = (distributions.cumsum(-1) > rng.random((64, K, 1))).argmax(-1)
        return tokens, distributions

    assert assert_q_contract(rows, method="sampled", rounds=50).drafts == 50 * 64 * K


def test_a_drafter_without_a_generator_repeats_and_leaves_the_random_states_alone() -> None:
    def propose() -> tuple[Tensor, Tensor]:
        return bigram(softmax, softmax, None)

    def numpys() -> tuple[np.ndarray, np.ndarray]:
        distribution = np.array([0.25, 0.75])
        return np.random.choice(2, 1, p=distribution), distribution[None]

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    for drafter in (propose, numpys):
        first, again, other = (
            assert_q_contract(drafter, method="sampled", rounds=200, seed=seed).z
            for seed in (1, 1, 2)
        )
        assert first == again != other
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_rows_without_a_draft_are_left_out() -> None:
    distributions = torch.tensor([[[0.5, 0.5], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    assert q_contract([(torch.tensor([[1, 0], [0, 1]]), distributions)]).drafts == 3


def test_a_draft_that_q_excludes() -> None:
    result = q_contract([(torch.tensor([0, 1]), torch.tensor([[0.5, 0.5], [1.0, 0.0]]))])
    assert not result.kept
    assert result.evidence == math.inf
    assert result.message.startswith(
        "draft 2 is token 1, which its reported distribution gives probability 0"
    )


def test_false_alarms_are_within_alpha() -> None:
    """300 correct drafters of 200 drafts each at alpha 5 %."""
    rng = np.random.default_rng(5)
    alarms = 0
    for seed in range(300):
        distributions = rng.dirichlet(np.full(6, 0.7), 200)
        tokens = (distributions.cumsum(-1) > rng.random((200, 1))).argmax(-1)
        alarms += not q_contract(
            [(torch.tensor(tokens), torch.tensor(distributions))], alpha=0.05, seed=seed
        ).kept
    assert alarms <= stats.binom.ppf(0.999, 300, 0.05)


def test_what_cannot_be_judged_is_said() -> None:
    distribution = torch.tensor([[0.5, 0.5]])
    with pytest.raises(MeasurementError, match=r"no drafts were proposed.*draft some"):
        q_contract([])
    with pytest.raises(RequestError, match="choose one between 0 and 1"):
        q_contract([(torch.tensor([0]), distribution)], alpha=0.0)
    with pytest.raises(RequestError, match=r"shapes \(2,\) and \(1, 2\); give"):
        q_contract([(torch.tensor([0, 1]), distribution)])
    with pytest.raises(ContractError, match="report probabilities"):
        q_contract([(torch.tensor([0]), 3 * distribution)])
    with pytest.raises(ContractError, match="outside the 2 tokens"):
        q_contract([(torch.tensor([2]), distribution)])
    with pytest.raises(RequestError, match="use "):
        assert_q_contract(honest, method="fast")  # type: ignore[arg-type]
