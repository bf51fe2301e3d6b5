"""Replay of tokens that are judged while others are given."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from acceptance.test_interleaved import brute_force
from helpers.fruit import (
    heads_case,
    next_distributions,
    prompt_ids,
    replayed,
    texts_of,
    whole_texts,
)

from pytest_specdec.acceptance.text_origin import Origin
from pytest_specdec.cases.case import Case, JudgedRange
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.records.text_set import TextSet


@pytest.fixture(autouse=True)
def made_up_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept texts of a pattern that the target would not emit: what counts here is which positions
    are judged.
    """
    monkeypatch.setattr(Origin, "check", lambda self: None)


def in_steps(case: Case, every: int) -> TextSet:
    """The case's texts, bent so that of `every` new tokens the last is one of 10 to 30 and the
    others are below.
    """
    texts = texts_of(case)
    bent = {
        key: tuple(
            10 + token % 21 if at % every == every - 1 else 2 + token % 8
            for at, token in enumerate(new)
        )
        for key, new in texts.texts.items()
    }
    return msgspec.structs.replace(texts, texts=bent)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("drafter", ["draft", "layers", "heads"])
@pytest.mark.parametrize("rule", ["rejection", "sample-match"])
def test_judged_rounds_are_played_on_the_acceptance_of_the_whole_stream(
    case: Case, rule: str, drafter: str, every: int
) -> None:
    """Rounds enumerated by hand: given tokens are free, and each judged one is accepted as plain
    replay of the stream says.
    """
    k, depth, own_heads = 3, 0 if drafter == "draft" else 2, drafter == "heads"
    case = dataclasses.replace(heads_case(case) if own_heads else case, depth=depth, rule=rule, k=k)
    texts = in_steps(case, every)
    judged = dataclasses.replace(case, judged=JudgedRange(10, 31, every))
    (measured,) = replayed(judged, texts=texts)
    assert measured.texts is not None
    assert measured.texts.texts == texts.texts
    (whole,) = replayed(dataclasses.replace(case, k=k * every), texts=texts)
    stream = whole.field().accept
    for row, ids in enumerate(prompt_ids()):
        accept = {}
        for start, step in itertools.product(range(24 // every), range(k)):
            if start + step < 24 // every:
                at = len(ids) + every * (start + step) + every - 1
                head = (
                    every * step + every - 1 if own_heads else every * (step % (1 + depth // every))
                )
                accept[start, step] = stream[row, head, at]
        rounds, accepted = brute_force(accept, 24 // every, k)
        np.testing.assert_allclose(measured.counts.rounds[row], rounds)
        np.testing.assert_allclose(measured.counts.accepted[row], accepted)
    assert 0 < measured.counts.accepted.sum() < measured.counts.drafted.sum()


def test_a_draft_model_drafts_judged_tokens_by_its_own_distribution_of_the_stream(
    case: Case,
) -> None:
    """From p and q of transformers' own passes over the interleaved text, nothing of ours
    between.
    """
    texts = in_steps(case, 2)
    (measured,) = replayed(
        dataclasses.replace(case, judged=JudgedRange(10, 31, 2), k=4), texts=texts
    )
    target, draft = (load_model(path, "cpu").model for path in (case.target, case.draft_model))
    for row, (text, ids) in enumerate(zip(whole_texts(measured), prompt_ids(), strict=True)):
        places = range(len(ids) + 1, len(text), 2)
        p, q = (next_distributions(model, text, case.texts) for model in (target, draft))
        chance = [min(1.0, (q[at - 1, text[at]] / p[at - 1, text[at]]).item()) for at in places]
        accept = {
            (start, step): chance[start + step]
            for start in range(12)
            for step in range(4)
            if start + step < 12
        }
        rounds, accepted = brute_force(accept, 12, 4)
        np.testing.assert_allclose(measured.counts.rounds[row], rounds, rtol=1e-4)
        np.testing.assert_allclose(measured.counts.accepted[row], accepted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            measured.samples.survival[row], np.cumprod(chance[1:5]), rtol=1e-4
        )


def test_judged_and_plain_cases_share_texts_and_one_pass(case: Case, passes: list[Any]) -> None:
    texts = in_steps(case, 2)
    passes.clear()
    cases = [
        case,
        *(
            dataclasses.replace(case, judged=JudgedRange(10, 31, 2), k=k, depth=depth)
            for k in (3, 5)
            for depth in (0, 2)
        ),
    ]
    measured = replayed(*cases, texts=texts)
    assert len(passes) == 1
    lengths = {measurement.counts.acceptance_length for measurement in measured}
    assert len(lengths) == len(cases)
    assert all(measurement.texts.texts == texts.texts for measurement in measured)
    (alone,) = replayed(cases[-1], texts=texts)
    np.testing.assert_allclose(alone.counts.accepted, measured[-1].counts.accepted, atol=1e-5)
