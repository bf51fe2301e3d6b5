"""Replay as an engine: one pass for all cases of the texts, which are stored ones or sampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from helpers.fruit import (
    grid,
    heads_case,
    lookup_case,
    next_distributions,
    prompt_ids,
    replayed,
    texts_of,
    whole_texts,
    with_texts,
)
from helpers.support import edit_config, llama

from pytest_specdec.acceptance.lookup import LookupIndex
from pytest_specdec.acceptance.renewal import AcceptanceField, expected_counts
from pytest_specdec.cases.case import LOOKUP, Case
from pytest_specdec.cases.drafter import DraftModelSpec
from pytest_specdec.common.errors import MeasurementError, RequestError
from pytest_specdec.decoding.loading import load_model
from pytest_specdec.engines.models import ModelPool
from pytest_specdec.engines.own.replay_engine import ReplayEngine
from pytest_specdec.judging.comparison import Run


def test_one_pass_serves_every_k_and_depth(case: Case, passes: list[Any]) -> None:
    measured = replayed(*grid(case, (4, 0), (4, 2), (8, 0), (8, 2)))
    assert len(passes) == 1
    assert len({measurement.counts.acceptance_length for measurement in measured}) == 4


def test_a_case_measures_the_same_alone_and_in_a_grid(case: Case) -> None:
    cases = grid(case, (4, 0), (4, 2), (8, 0), (8, 2))
    for cell, together in zip(cases, replayed(*cases), strict=True):
        (alone,) = replayed(cell)
        np.testing.assert_allclose(alone.counts.accepted, together.counts.accepted, atol=1e-5)


def test_own_heads_share_the_texts_and_reuse_their_last_layer(case: Case) -> None:
    model, short, long = replayed(*grid(case, (4, 0)), *grid(heads_case(case), (2, 2), (6, 2)))
    assert short.text_fingerprints == model.text_fingerprints
    assert long.counts.acceptance_length > short.counts.acceptance_length


def test_stored_texts_are_used_as_they_are(case: Case) -> None:
    texts = texts_of(case)
    first = next(iter(texts.texts))
    kept = msgspec.structs.replace(texts, texts={**texts.texts, first: tuple(range(2, 26))})
    used = replayed(case, texts=kept)[0].texts
    assert used is not None
    assert used.fits(kept)
    assert used.texts == kept.texts
    assert {key: len(values) for key, values in used.logprobs.items()} == {
        key: len(new) for key, new in kept.texts.items()
    }


def test_only_missing_texts_are_sampled(case: Case) -> None:
    texts = texts_of(case)
    keys = sorted(texts.texts)
    part = msgspec.structs.replace(texts, texts={key: texts.texts[key] for key in keys[:3]})
    used = replayed(case, texts=part)[0].texts
    assert used is not None
    assert set(used.texts) == set(keys)
    assert all(used.texts[key] == texts.texts[key] for key in keys[:3])


def test_texts_of_another_target_are_not_used(case: Case, tmp_path: Path) -> None:
    texts = texts_of(case)
    elsewhere = with_texts(case, target=str(llama(tmp_path / "other", seed=9)))
    used = replayed(elsewhere, texts=texts)[0].texts
    assert used is not None
    assert used.target != texts.target
    assert used.texts != texts.texts


def test_a_bad_drafter_fails_alone(case: Case, tmp_path: Path) -> None:
    bad = edit_config(llama(tmp_path / "bad", seed=3, mtp_layers=0), num_mtp_layers=2)
    broken = dataclasses.replace(case, drafter=DraftModelSpec(str(bad)), label="bad", depth=2)
    engine = ReplayEngine([case, broken], ModelPool("cpu"))
    assert engine.measure(case).counts.total_rounds > 0
    with pytest.raises(RequestError, match="hold none"):
        engine.measure(broken)


def test_texts_too_short_for_a_round_are_an_error(case: Case) -> None:
    with pytest.raises(MeasurementError, match=r"raise --specdec-new-tokens"):
        replayed(*grid(case, (40, 0)))


SAMPLINGS = [{}, {"top_k": 4}, {"top_p": 0.6, "temperature": 0.8}]


@pytest.mark.parametrize(
    "sampling", SAMPLINGS, ids=lambda sampling: "-".join(sampling) or "unfiltered"
)
@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block"])
def test_a_rules_counts_follow_from_p_and_q_of_the_texts(
    case: Case, rule: str, sampling: dict[str, float]
) -> None:
    case = with_texts(dataclasses.replace(case, rule=rule), **sampling)
    (measured,) = replayed(case)
    target, draft = (load_model(path, "cpu").model for path in (case.target, case.draft_model))
    texts, starts = whole_texts(measured), [len(ids) + 1 for ids in prompt_ids()]
    accept = np.zeros((len(texts), 1, max(map(len, texts))))
    for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
        drafts = torch.tensor(text[start:])[:, None]
        p, q = (
            next_distributions(model, text, case.texts)[start - 1 :].gather(1, drafts)[:, 0].numpy()
            for model in (target, draft)
        )
        assert (p > 0).all()
        accept[row, 0, start : len(text)] = {
            "rejection": np.minimum(q / p, 1),
            "sample-match": q,
            "block": q / p,
        }[rule]
    names, lengths = measured.counts.prompts, np.array(list(map(len, texts)))
    field = AcceptanceField(
        names, ("fruit",) * len(names), accept, np.array(starts), lengths, joint=rule == "block"
    )
    wanted = expected_counts(field, 4)
    np.testing.assert_allclose(measured.counts.accepted, wanted.accepted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(measured.counts.rounds, wanted.rounds, rtol=1e-4)


def test_rules_share_one_pass_and_are_ordered(case: Case, passes: list[Any]) -> None:
    measured = replayed(
        *(dataclasses.replace(case, rule=rule) for rule in ("sample-match", "rejection", "block"))
    )
    lengths = [measurement.counts.acceptance_length for measurement in measured]
    assert len(passes) == 1
    assert lengths == sorted(set(lengths))


def looked_up(text: Sequence[int], start: int, k: int) -> tuple[int, list[int], list[int]]:
    """Rounds, drafts and accepted drafts by position, played one by one; nothing is random given
    the text.
    """
    rounds, drafted, accepted = 0, [0] * k, [0] * k
    while start + k <= len(text):
        drafts = LookupIndex(text[:start]).propose(k)
        equal = [draft == token for draft, token in zip(drafts, text[start:], strict=False)]
        taken = equal.index(False) if False in equal else len(equal)
        for step in range(k):
            drafted[step] += step < len(drafts)
            accepted[step] += step < taken
        rounds, start = rounds + 1, start + taken + 1
    return rounds, drafted, accepted


@pytest.mark.parametrize("rule", ["rejection", "sample-match", "block", "greedy"])
def test_prompt_lookup_is_replayed_round_for_round(case: Case, rule: str) -> None:
    """Its drafts are certain, so every lossless rule accepts the text's own tokens and nothing
    else.
    """
    case = with_texts(case, temperature=0.0 if rule == "greedy" else 0.4, new_tokens=60)
    sizes = (5, 2)
    measured = replayed(*(lookup_case(case, rule=rule, k=k) for k in sizes))
    for k, measurement in zip(sizes, measured, strict=True):
        counts = measurement.counts
        texts = zip(whole_texts(measurement), prompt_ids(), strict=True)
        rounds, drafted, accepted = zip(
            *(looked_up(text, len(ids) + 1, k) for text, ids in texts), strict=True
        )
        assert counts.rounds.tolist() == list(rounds)
        assert counts.drafted.tolist() == list(drafted)
        assert counts.accepted.tolist() == list(accepted)
        assert 0 < counts.accepted.sum() < counts.drafted.sum() < k * counts.total_rounds


def test_prompt_lookup_shares_texts_with_models_and_is_known_by_its_ngram(case: Case) -> None:
    lookup = lookup_case(case)
    model, copied = replayed(case, lookup)
    assert copied.texts == model.texts
    assert copied.fingerprints.target == model.fingerprints.target
    assert copied.fingerprints.drafter == "prompt-lookup-2"
    assert Run(lookup, [copied], engine="replay").record.conditions.drafter == LOOKUP


def test_texts_are_sampled_with_the_filter_they_are_scored_with(case: Case) -> None:
    filtered = with_texts(case, top_k=3)
    free, few = replayed(case, filtered)
    assert few.texts is not None
    assert free.texts is not None
    assert (few.texts.top_k, few.texts.top_p, free.texts.top_k) == (3, 1.0, 0)
    target = load_model(case.target, "cpu").model
    least = []
    for measured in (few, free):
        distributions = [
            (next_distributions(target, text, filtered.texts), text)
            for text in whole_texts(measured)
        ]
        least.append(
            min(
                distribution[at - 1, text[at]].item()
                for distribution, text in distributions
                for at in range(len(text) - 24, len(text))
            )
        )
    assert least[0] > 0
    assert least[1] == 0


def test_texts_of_another_filter_are_not_used(case: Case) -> None:
    texts = texts_of(case)
    filtered = with_texts(case, top_p=0.5)
    used = replayed(filtered, texts=texts)[0].texts
    assert used is not None
    assert used.top_p == 0.5
    assert used.texts != texts.texts
    assert replayed(filtered, texts=used)[0].texts == used
