"""Rows with different numbers of drafts in one batch: flat and padded samplers, exact and
sampled.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from museum import ragged, reference
from torch import Tensor

from pytest_specdec.common.errors import RequestError
from pytest_specdec.lossless import assert_lossless, flat_batch
from pytest_specdec.lossless.enumeration.paths import NotEnumerableError
from pytest_specdec.lossless.samplers.exact import RoundInput
from pytest_specdec.lossless.samplers.exact_batch import (
    BatchInput,
    RowDependence,
    RowDistributionGap,
    batch_error,
)
from pytest_specdec.lossless.samplers.prefix_tree import PrefixTree
from pytest_specdec.lossless.samplers.sampled import sampled_distribution_test
from pytest_specdec.lossless.samplers.sampled_rounds import SampledRounds
from pytest_specdec.lossless.samplers.sampler import ContractError, Sampler
from pytest_specdec.lossless.samplers.seed_and_row_checks import check_rows, check_seed

Generator = torch.Generator | None
P, Q, OWN = (0.5, 0.3, 0.2), (0.2, 0.2, 0.6), (0.1, 0.8, 0.1)
LAWS = PrefixTree([P, (0.1, 0.2, 0.7)]), PrefixTree([Q])
NAMED = {ragged_sampler.name: ragged_sampler for ragged_sampler in ragged.RAGGED}
RIGHT = Sampler(flat_batch(ragged.reference))


def test_the_case_of_the_issue_is_found_and_its_right_twin_passes() -> None:
    """Rows at b * max_spec_len: right for equal counts, which is all that padded arguments can
    show.
    """

    def equal(p: Tensor, q: Tensor, drafts: Tensor, generator: Generator = None) -> Tensor:
        rows, k, size = q.shape
        bonus = torch.multinomial(p[:, -1], 1, generator=generator)
        flat = (
            drafts.reshape(-1),
            [k] * rows,
            q.reshape(-1, size),
            p[:, :-1].reshape(-1, size),
            bonus,
        )
        return NAMED["rows at equal distances"].sample(*flat, generator)

    assert assert_lossless(equal, batched=True, max_examples=3).untried
    with pytest.raises(AssertionError, match=r"in a batch whose rows have \[.*\] drafts"):
        assert_lossless(flat_batch(NAMED["rows at equal distances"].sample), max_examples=25)
    checked = assert_lossless(flat_batch(ragged.reference), max_examples=5)
    assert (checked.method, checked.batches, checked.untried) == ("exact", 5, "")
    assert str(checked) == "reference is lossless: exact in 5 rounds and 5 batches of ragged rows"


def padded(
    p: Tensor, q: Tensor, drafts: Tensor, num_draft_tokens: Tensor, generator: Generator = None
) -> Tensor:
    """Padded rows with their numbers of drafts: padding is rejected, and replaced by a token of the
    distribution after the drafts.
    """
    real = torch.arange(drafts.shape[1]) < num_draft_tokens[:, None]
    accepted = reference.leading(reference.passed(p, q, drafts, generator) & real)
    weights = reference.q_at(q, accepted) * (accepted < num_draft_tokens)[:, None]
    last = reference.drawn(reference.residual(reference.at(p, accepted), weights), generator)
    return reference.emitted(drafts, accepted, last)


def last_distribution(
    p: Tensor, q: Tensor, drafts: Tensor, num_draft_tokens: Tensor, generator: Generator = None
) -> Tensor:
    """The bonus token of every row is drawn from the distribution after the longest row's
    drafts.
    """
    p = p.clone()
    p[torch.arange(len(p)), num_draft_tokens] = p[:, -1].clone()
    return padded(p, q, drafts, num_draft_tokens, generator)


def all_drafts(
    p: Tensor, q: Tensor, drafts: Tensor, num_draft_tokens: Tensor, generator: Generator = None
) -> Tensor:
    return reference.reference(p, q, drafts, generator)


def test_padded_rows_with_their_numbers_of_drafts() -> None:
    checked = assert_lossless(padded, max_examples=10)
    assert (checked.method, checked.batches) == ("exact", 10)
    with pytest.raises(
        AssertionError,
        match=r"is not lossless \(exact\): in a batch whose rows have .* drafts, row \d: ",
    ):
        assert_lossless(last_distribution, max_examples=10)
    with pytest.raises(
        AssertionError, match=r"in a batch whose rows have .* drafts, row \d emitted"
    ):
        assert_lossless(all_drafts, max_examples=10)


def whole(p: Tensor, q: Tensor, num_draft_tokens: Tensor, generator: Generator = None) -> Tensor:
    return padded(p, q, reference.drawn_rows(q, generator), num_draft_tokens, generator)


def in_numpy(
    p: np.ndarray,
    q: np.ndarray,
    drafts: np.ndarray,
    num_draft_tokens: np.ndarray,
    rng: np.random.Generator,
) -> list:
    rows = []
    for row, count in enumerate(num_draft_tokens):
        emitted: list[int] = []
        for step in range(count):
            token = drafts[row, step]
            if rng.random() * q[row, step, token] < p[row, step, token]:
                emitted.append(token)
                continue
            rest = np.maximum(p[row, step] - q[row, step], 0)
            emitted.append(rng.choice(len(rest), p=rest / rest.sum()))
            break
        else:
            emitted.append(rng.choice(p.shape[2], p=p[row, count]))
        rows.append(emitted)
    return rows


@pytest.mark.parametrize(("sampler", "drafts"), [(whole, "own"), (in_numpy, "given")])
def test_own_drafts_and_numpy(sampler: Callable[..., Any], drafts: Any) -> None:
    assert assert_lossless(sampler, drafts=drafts, max_examples=6).batches == 6


# The distribution of a batch


BATCH = BatchInput(
    (
        RoundInput(*LAWS, 1),
        RoundInput(PrefixTree([OWN]), PrefixTree([P]), 0),
        RoundInput(PrefixTree([Q]), PrefixTree([P]), 2),
    )
)


def test_the_distribution_of_a_batch_is_the_product_of_its_rows() -> None:
    distribution = BATCH.distribution(RIGHT)
    assert sum(distribution.values()) == pytest.approx(1, abs=1e-6)
    distributions = [
        row.distribution(RIGHT) if row.k else {(token,): chance for token, chance in enumerate(OWN)}
        for row in BATCH.rows
    ]
    for emitted in itertools.product(*distributions):
        chance = np.prod(
            [
                row_distribution[tokens]
                for row_distribution, tokens in zip(distributions, emitted, strict=True)
            ]
        )
        assert distribution.get(emitted, 0.0) == pytest.approx(chance, abs=1e-6)
    assert batch_error(distribution, BATCH, 2e-6) is None


def test_one_wrong_row_is_named() -> None:
    gap = batch_error(
        BATCH.distribution(Sampler(flat_batch(NAMED["bonus of another row"].sample))), BATCH, 2e-6
    )
    assert isinstance(gap, RowDistributionGap)
    assert gap.row == 1


def test_rows_that_depend_on_each_other_are_noticed() -> None:
    gap = batch_error(
        BATCH.distribution(Sampler(flat_batch(NAMED["coins by position"].sample))), BATCH, 2e-6
    )
    assert isinstance(gap, RowDependence)
    assert [len(tokens) for tokens in gap.tokens] == [1, 1, 1]
    chances = [
        row.target.row(())[tokens[0]] for row, tokens in zip(BATCH.rows, gap.tokens, strict=True)
    ]
    assert gap.expected == pytest.approx(np.prod(chances), 1e-5)


def test_a_dependence_of_later_tokens_alone() -> None:
    """Two rows whose second tokens agree, while all else is as it should be."""
    flat = PrefixTree([(0.5, 0.5)])
    batch = BatchInput((RoundInput(flat, flat, 1), RoundInput(flat, flat, 1)))
    distribution = {((a, c), (b, c)): 1 / 8 for a, b, c in itertools.product(range(2), repeat=3)}
    gap = batch_error(distribution, batch, 1e-6)
    assert isinstance(gap, RowDependence)
    assert [len(tokens) for tokens in gap.tokens] == [2, 2]
    assert {gap.expected, gap.got} <= {1 / 16, 1 / 8, 0}


# Where draws cannot be followed


def test_vllms_step_by_step_twin_is_sampled_and_passes() -> None:
    checked = assert_lossless(flat_batch(ragged.as_vllm), max_examples=2, draws=4_000)
    assert (checked.method, checked.batches) == ("sampled", 2)
    assert "exponential_ is used again" in checked.reason
    assert "in 2 rounds and 2 batches of ragged rows" in str(checked)


@pytest.mark.parametrize("name", NAMED)
def test_sampling_finds_them_too(name: str) -> None:
    with pytest.raises(AssertionError, match="not lossless"):
        assert_lossless(
            flat_batch(NAMED[name].sample), method="sampled", max_examples=1, draws=1_500
        )


def test_a_distribution_that_is_wrong_in_rows_of_one_number_only() -> None:
    def skewed(
        p: Tensor, q: Tensor, drafts: Tensor, num_draft_tokens: Tensor, generator: Generator = None
    ) -> Tensor:
        p = p.clone()
        p[num_draft_tokens == 1, 1] = torch.tensor(Q)
        return padded(p, q, drafts, num_draft_tokens, generator)

    result = sampled_distribution_test(
        Sampler(skewed), *LAWS, 2, alpha=1e-6, draws=20_000, ragged=True
    )
    assert result.caught
    assert result.drafts == 1
    assert result.message.startswith("in rows with 1 drafts beside rows with other numbers, [")
    assert not sampled_distribution_test(
        Sampler(padded), *LAWS, 2, alpha=1e-6, draws=20_000, ragged=True
    ).caught
    assert not sampled_distribution_test(Sampler(skewed), *LAWS, 2, alpha=1e-6, draws=20_000).caught


def test_every_batch_holds_all_numbers_of_drafts_and_never_none_alone() -> None:
    seen = []

    def watched(
        p: Tensor, q: Tensor, drafts: Tensor, num_draft_tokens: Tensor, generator: Any = None
    ) -> Tensor:
        seen.append(num_draft_tokens)
        return padded(p, q, drafts, num_draft_tokens, generator)

    given = SampledRounds(Sampler(watched), *LAWS, 3, 0, ragged=True)
    given.more(5_000)
    given.more(1)
    assert [int(counts.max()) for counts in seen] == [3, 3, 3]
    assert given.kinds() == [0, 1, 2, 3]
    assert len(given.levels()) == 16


def test_equal_numbers_alone_are_asked_for_of_others() -> None:
    with pytest.raises(RequestError, match="takes no num_draft_tokens; give it that parameter"):
        SampledRounds(Sampler(reference.reference, batched=True), *LAWS, 3, 0, ragged=True)


@pytest.mark.parametrize("sampler", [RIGHT, Sampler(padded), Sampler(whole, drafts="own")])
def test_right_samplers_treat_rows_and_seeds_as_they_must(sampler: Sampler) -> None:
    for seed in range(2):
        check_seed(sampler, seed)
        check_rows(sampler, seed)


def test_a_row_that_reads_anothers_distribution_is_noticed_by_number() -> None:
    with pytest.raises(
        ContractError,
        match=r"with 0 drafts beside rows with other numbers, emitted .* num_draft_tokens",
    ):
        check_rows(Sampler(flat_batch(NAMED["bonus of another row"].sample)))


# The adapter


def flat(draft_token_ids: Tensor, bonus_token_ids: Tensor, **others: Any) -> Tensor:
    flat.given = {"draft_token_ids": draft_token_ids, "bonus_token_ids": bonus_token_ids, **others}  # type: ignore[attr-defined]
    return torch.zeros(3, 3)


def test_what_a_flat_sampler_is_given() -> None:
    p = torch.rand(3, 3, 4).softmax(-1)
    q = torch.rand(3, 2, 4).softmax(-1)
    p[0, 2] = torch.tensor([0.0, 0.0, 1.0, 0.0])
    p[1, 0] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    flat_batch(flat)(p, q, torch.tensor([[1, 2], [0, 0], [3, 0]]), torch.tensor([2, 0, 1]))
    given = flat.given  # type: ignore[attr-defined]
    assert given["draft_token_ids"].tolist() == [1, 2, 3]
    assert (
        given["draft_token_ids"].dtype
        == given["bonus_token_ids"].dtype
        == given["cu_num_draft_tokens"].dtype
        == torch.int32
    )
    assert (given["num_draft_tokens"], given["max_spec_len"]) == ([2, 0, 1], 2)
    assert given["cu_num_draft_tokens"].tolist() == [2, 2, 3]
    assert torch.equal(given["draft_probs"], torch.stack([q[0, 0], q[0, 1], q[2, 0]]))
    assert torch.equal(given["target_probs"], torch.stack([p[0, 0], p[0, 1], p[2, 0]]))
    assert torch.equal(given["target_logits"], given["target_probs"].log())
    assert given["bonus_token_ids"].shape == (3, 1)
    assert given["bonus_token_ids"][:2, 0].tolist() == [2, 3]


def test_other_token_types_and_devices() -> None:
    """Indices of int64, and a generator of the device's own, which goes on where it was."""
    drawn = []

    def long(
        draft_token_ids: Tensor, bonus_token_ids: Tensor, generator: Generator = None
    ) -> Tensor:
        drawn.append((draft_token_ids.dtype, torch.rand((), generator=generator).item()))
        return bonus_token_ids

    sampler = flat_batch(long, device="cpu:0", token_dtype=torch.int64)
    rows = (
        torch.full((1, 2, 2), 0.5),
        torch.full((1, 1, 2), 0.5),
        torch.zeros(1, 1, dtype=torch.int64),
        torch.ones(1, dtype=torch.int64),
    )
    for generator in (
        other_generator := torch.Generator().manual_seed(3),
        other_generator,
        torch.Generator().manual_seed(3),
    ):
        sampler(*rows, generator=generator)
    assert {kind for kind, _ in drawn} == {torch.int64}
    assert drawn[0][1] == drawn[2][1] != drawn[1][1]


def writes(
    draft_token_ids: Tensor, draft_probs: Tensor, target_probs: Tensor, bonus_token_ids: Tensor
) -> Tensor:
    target_probs[0, 0] = 0
    return bonus_token_ids


def sorts(num_draft_tokens: list[int], bonus_token_ids: Tensor) -> Tensor:
    num_draft_tokens.append(0)
    return bonus_token_ids


@pytest.mark.parametrize(
    ("sample", "name"), [(writes, "target_probs"), (sorts, "num_draft_tokens")]
)
def test_arguments_must_be_left_as_they_are(sample: Callable[..., Any], name: str) -> None:
    with pytest.raises(
        AssertionError, match=rf"\(contract\): it changed its argument {name}; clone it"
    ):
        assert_lossless(flat_batch(sample), max_examples=10)


def with_metadata(
    draft_token_ids: Tensor, bonus_token_ids: Tensor, sampling_metadata: object
) -> Tensor:
    return bonus_token_ids


def without_bonus(draft_token_ids: Tensor) -> Tensor:
    return draft_token_ids


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (
            with_metadata,
            "with_metadata cannot be called with flat rows: it needs sampling_metadata; wrap it in "
            "a function of",
        ),
        (without_bonus, "it takes no bonus_token_ids; wrap it"),
        (lambda *flat: flat, "it takes no bonus_token_ids; wrap it"),
    ],
)
def test_functions_that_cannot_be_called(sample: Callable[..., Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        flat_batch(sample)


def test_addresses_of_drawn_numbers_are_not_given_away() -> None:
    """A kernel that is handed the address of a bonus token which is not decided would read what is
    no longer there.
    """

    def kernel(draft_token_ids: Tensor, bonus_token_ids: Tensor) -> Tensor:
        bonus_token_ids.data_ptr()
        return bonus_token_ids

    with pytest.raises(NotEnumerableError, match=r"data_ptr\(\)"):
        assert_lossless(flat_batch(kernel), method="exact", max_examples=5)
