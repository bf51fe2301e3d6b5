"""Causes are named from what each round emits; what is right, or fits two causes alike, accuses
nobody.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pytest_specdec.acceptance.rounds import Round
from pytest_specdec.cases.case import Sampling
from pytest_specdec.cases.texts import Text
from pytest_specdec.lossless.texts import causes
from pytest_specdec.lossless.texts.causes import (
    ACCEPTED,
    BONUS,
    FROM_P,
    IGNORED,
    PLAIN,
    RAW_BONUS,
    RAW_Q,
    RECOVERED,
    SMALL_Q,
    SOFTMAX_Q,
    UNTESTED,
    likely_causes,
    named,
    roles_of,
)
from pytest_specdec.lossless.texts.teacher_forcing import TeacherForced

HOT = Sampling(1.6, 20)
VOCABULARY = 60


def logits(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = 2 * torch.randn(tokens, VOCABULARY, generator=generator)
    return target, target + torch.randn(tokens, VOCABULARY, generator=generator)


def emitted(
    cause: causes.Cause | None, tokens: int, sampling: Sampling = HOT
) -> tuple[TeacherForced, np.ndarray]:
    """One draft in each context, tested as a decoder with that defect does; every fourth token is a
    bonus.
    """
    target, draft = logits(tokens)
    at = np.arange(tokens)
    empty = TeacherForced(at, torch.zeros(tokens, dtype=torch.long), target, draft)
    decoder = next(
        candidate for candidate in causes._decoders(empty, sampling) if candidate.cause is cause
    )
    generator = torch.Generator().manual_seed(1)
    drafts = torch.multinomial(decoder.drafts, 1, generator=generator)
    accepted = torch.rand(tokens, 1, generator=generator) < decoder.accepts.gather(-1, drafts)
    recovered = torch.multinomial(decoder.recovers, 1, generator=generator)
    bonus = torch.multinomial(decoder.bonus, 1, generator=generator)
    roles = torch.where(accepted, ACCEPTED, RECOVERED)
    emitted_tokens = torch.where(accepted, drafts, recovered)
    fourth = torch.arange(tokens)[:, None] % 4 == 3
    roles, emitted_tokens = (
        torch.where(fourth, BONUS, roles),
        torch.where(fourth, bonus, emitted_tokens),
    )
    return TeacherForced(at, emitted_tokens[:, 0], target, draft), roles[:, 0].numpy()


@pytest.mark.parametrize(
    "cause", [RAW_Q, SOFTMAX_Q, RAW_BONUS, FROM_P, SMALL_Q, UNTESTED], ids=lambda cause: cause.name
)
def test_each_defect_is_named(cause: causes.Cause) -> None:
    part, roles = emitted(cause, 4000)
    assert likely_causes([part], roles, HOT) == (cause,)


@pytest.mark.parametrize("seed", range(5))
def test_a_right_decoder_has_no_cause(seed: int) -> None:
    part, roles = emitted(None, 500 + seed)
    assert likely_causes([part], roles, HOT) == ()


def test_where_nothing_is_filtered_a_raw_q_is_no_cause() -> None:
    part, roles = emitted(RAW_Q, 2000, Sampling())
    assert likely_causes([part], roles, Sampling()) == ()


def test_what_does_not_separate_two_causes_names_both() -> None:
    """Recovered tokens alone, in the few contexts where two defects draw them equally."""
    part, roles = emitted(FROM_P, 6000)
    few = [
        size
        for size in range(20, 1500, 20)
        if len(causes_found := likely(part, roles, size)) > 1 and FROM_P in causes_found
    ]
    assert few, "no prefix of the texts leaves two causes"
    causes_found = likely(part, roles, few[0])
    description = named(causes_found)
    assert description.startswith("either ")
    assert all(
        named_cause.name in description and named_cause.cure in description
        for named_cause in causes_found
    )


def likely(part: TeacherForced, roles: np.ndarray, size: int) -> tuple[causes.Cause, ...]:
    assert part.draft_logits is not None
    short = TeacherForced(
        part.at[:size], part.tokens[:size], part.logits[:size], part.draft_logits[:size]
    )
    return likely_causes([short], roles, HOT)


def test_without_the_drafters_logits_only_the_bonus_token_can_be_named() -> None:
    for cause, expected in ((RAW_BONUS, (RAW_BONUS,)), (FROM_P, ())):
        part, roles = emitted(cause, 4000)
        alone = TeacherForced(part.at, part.tokens, part.logits, None)
        assert likely_causes([alone], roles, HOT) == expected


def test_roles_follow_the_rounds() -> None:
    text = Text("a", "all", tuple(range(12)), 2)
    rounds = [Round(3, 3, 3), Round(7, 3, 1), Round(9, 0, 0), Round(10, 2, 1)]
    assert roles_of([text], [rounds]).tolist() == [
        PLAIN,
        ACCEPTED,
        ACCEPTED,
        ACCEPTED,
        BONUS,
        ACCEPTED,
        RECOVERED,
        PLAIN,
        ACCEPTED,
        IGNORED,
    ]
